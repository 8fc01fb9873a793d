// What the AWS tools are told by environment variables and by the profile files in ~/.aws.
// (https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html)
#pragma once

#include <map>
#include <string>

namespace headrace::store {

class AwsSettings {
 public:
  using Values =
      std::map<std::string, std::string>;  // by lower-case name; nested ones are "s3.addressing_style"

  // The variables as they are now. They are kept: setenv() in another thread would make a later look unsafe.
  static AwsSettings FromEnvironment();
  explicit AwsSettings(Values environment);
  // The same variables, the files read anew.
  AwsSettings Reload() const { return AwsSettings(environment_); }

  std::string Env(const std::string& name) const;  // "" where it is not set
  std::string InHome(const std::string& path) const { return Env("HOME") + "/" + path; }
  const std::string& profile_name() const { return profile_name_; }
  // From both files; where both name a value, the credentials file's.
  const Values& Profile(const std::string& name) const;
  // From the credentials file alone.
  const Values& SharedProfile(const std::string& name) const;
  const Values& SsoSession(const std::string& name) const;
  // A value of the profile in use; "" where it has none.
  std::string Get(const std::string& name) const { return Find(Profile(profile_name_), name); }
  static std::string Find(const Values& values, const std::string& name);

  std::string Region() const;  // "" where none is set
  // The address that is set for "s3", "sts", "sso"…, without a slash at its end; "": AWS's own.
  std::string Endpoint(const std::string& service) const;

 private:
  using Sections = std::map<std::string, Values>;
  void ReadConfig(const std::string& path);

  Values environment_;
  std::string profile_name_;
  Sections profiles_;  // both files
  Sections shared_;
  Sections sso_sessions_;
  Sections services_;
};

}  // namespace headrace::store
