"""Where S3 credentials come from: the program and botocore, given the same machine, sign with the same keys."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import headrace as hr
import pytest
from fake_aws import SECRET_WORD, FakeAws, Keys

BOTOCORE = """
import botocore.session
found = botocore.session.Session().get_credentials()
print(*(found.get_frozen_credentials()[:3] if found else ["none"]), sep="\\n")
"""


@pytest.fixture
def aws() -> Iterator[FakeAws]:
    server = FakeAws()
    yield server
    server.close()


class Machine:
    """A home folder and environment variables."""

    def __init__(self, aws: FakeAws, home: pathlib.Path) -> None:
        self.aws, self.home = aws, home
        (home / ".aws" / "sso" / "cache").mkdir(parents=True)
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "AWS_ENDPOINT_URL": aws.url,
            "AWS_REGION": "eu-west-3",
            "AWS_DEFAULT_REGION": "eu-west-3",  # what botocore reads
            "AWS_EC2_METADATA_DISABLED": "true",
            "HEADRACE_S3_DEADLINE": "5",
        }

    def file(self, name: str, text: str) -> pathlib.Path:
        path = self.home / name
        path.write_text(text)
        return path

    def keys_file(self, name: str, profile: str = "default") -> str:
        keys = self.aws.hand_out(name)
        return (
            f"[{profile}]\naws_access_key_id = {keys.access}\naws_secret_access_key = {keys.secret}\n"
            f"aws_session_token = {keys.token}\n"
        )

    def headrace(self) -> subprocess.CompletedProcess[str]:
        program = shutil.which("headrace")
        assert program
        return subprocess.run(
            [program, "--catalog", "s3://bucket/x", "ls"],
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def asker(self) -> tuple[str, str | None]:
        self.aws.askers.clear()
        done = self.headrace()
        assert self.aws.askers, done.stderr
        return self.aws.askers[-1]

    def botocore(self) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", BOTOCORE], env=self.environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split("\n")[:3]


def at(seconds: float) -> str:
    return (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def set_environment(m: Machine) -> str:
    keys = m.aws.hand_out("ENV")
    m.environment |= {"AWS_ACCESS_KEY_ID": keys.access, "AWS_SECRET_ACCESS_KEY": keys.secret}
    m.environment["AWS_SESSION_TOKEN"] = keys.token or ""
    m.file(".aws/credentials", m.keys_file("FILE"))
    return "ENV"


def set_credentials_file(m: Machine) -> str:
    m.file(".aws/credentials", m.keys_file("FILE"))
    m.file(".aws/config", "[default]\ncredential_process = /bin/false\naws_access_key_id = A\n")
    return "FILE"


def set_named_profile(m: Machine) -> str:
    m.file(".aws/credentials", m.keys_file("OTHER") + m.keys_file("NAMED", "my team"))
    m.environment["AWS_PROFILE"] = "my team"
    return "NAMED"


def set_config_file(m: Machine) -> str:
    m.file(".aws/config", m.keys_file("CONFIG"))
    return "CONFIG"


def set_web_identity(m: Machine) -> str:
    m.aws.roles["arn:aws:iam::1:role/pod"] = "POD"
    m.environment["AWS_WEB_IDENTITY_TOKEN_FILE"] = str(m.file("token", m.aws.web_token))
    m.environment["AWS_ROLE_ARN"] = "arn:aws:iam::1:role/pod"
    m.file(".aws/credentials", m.keys_file("FILE"))
    return "POD"


def set_web_identity_of_a_profile(m: Machine) -> str:
    m.aws.roles["arn:aws:iam::1:role/pod"] = "PODPROFILE"
    token = m.file("token", m.aws.web_token)
    m.file(".aws/config", f"[profile p]\nrole_arn = arn:aws:iam::1:role/pod\nweb_identity_token_file = {token}\n")
    m.environment["AWS_PROFILE"] = "p"
    return "PODPROFILE"


def set_assumed_role(m: Machine) -> str:
    m.aws.roles["arn:aws:iam::1:role/r"] = "ROLE"
    m.file(".aws/config", "[profile p]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = base\nexternal_id = é/+ x\n")
    m.file(".aws/credentials", m.keys_file("BASE", "base"))
    m.environment["AWS_PROFILE"] = "p"
    return "ROLE"


def set_chain_of_roles(m: Machine) -> str:
    m.aws.roles |= {"arn:aws:iam::1:role/one": "ONE", "arn:aws:iam::1:role/two": "TWO"}
    m.file(
        ".aws/config",
        "[profile p]\nrole_arn = arn:aws:iam::1:role/two\nsource_profile = q\n"
        "[profile q]\nrole_arn = arn:aws:iam::1:role/one\nsource_profile = base\n",
    )
    m.file(".aws/credentials", m.keys_file("BASE", "base"))
    m.environment["AWS_PROFILE"] = "p"
    return "TWO"


def set_role_of_the_instance(m: Machine) -> str:
    m.aws.roles["arn:aws:iam::1:role/r"] = "ROLE"
    m.file(".aws/config", "[default]\nrole_arn = arn:aws:iam::1:role/r\ncredential_source = Ec2InstanceMetadata\n")
    return set_instance(m) and "ROLE"


def write_sso_token(m: Machine, cached: str, token: dict[str, str]) -> None:
    name = hashlib.sha1(cached.encode()).hexdigest()
    m.file(f".aws/sso/cache/{name}.json", json.dumps({"startUrl": "https://corp/start", **token}))


SSO_PROFILE = "[profile p]\nsso_role_name = Reader\nsso_account_id = 12\nregion = eu-west-3\n"
SSO_PLACE = "sso_start_url = https://corp/start\nsso_region = eu-central-1\n"


def set_sso_session(m: Machine) -> str:
    m.file(".aws/config", SSO_PROFILE + "sso_session = corp\n[sso-session corp]\n" + SSO_PLACE)
    write_sso_token(m, "corp", {"accessToken": m.aws.sso_token, "expiresAt": at(3600)})
    m.environment["AWS_PROFILE"] = "p"
    return "SSOReader12"


def set_old_sso(m: Machine) -> str:
    m.file(".aws/config", SSO_PROFILE + SSO_PLACE)
    write_sso_token(m, "https://corp/start", {"accessToken": m.aws.sso_token, "expiresAt": at(3600)})
    m.environment["AWS_PROFILE"] = "p"
    return "SSOReader12"


def set_expired_sso_session(m: Machine) -> str:
    """Whose token can be renewed."""
    name = set_sso_session(m)
    token = {"accessToken": "old", "expiresAt": at(-60), "refreshToken": m.aws.sso_refresh, "clientId": "c"}
    token |= {"clientSecret": "s", "registrationExpiresAt": at(86400)}
    write_sso_token(m, "corp", token)
    return name


def set_process(m: Machine) -> str:
    keys = m.aws.hand_out("PROCESS")
    answer = {"Version": 1, "AccessKeyId": keys.access, "SecretAccessKey": keys.secret, "SessionToken": keys.token}
    m.file("an answer.json", json.dumps({**answer, "Expiration": at(3600)}))
    m.file(".aws/config", f'[default]\ncredential_process = cat "{m.home}/an answer.json"\n')
    return "PROCESS"


def set_container(m: Machine) -> str:
    m.environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = m.aws.url + "/container?x=1"
    m.environment["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = m.aws.container_token
    return "CONTAINER"


def set_container_token_file(m: Machine) -> str:
    m.environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = m.aws.url + "/container?x=1"
    m.environment["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "wrong"
    m.environment["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = str(m.file("token", m.aws.container_token))
    return "CONTAINER"


def set_instance(m: Machine) -> str:
    del m.environment["AWS_EC2_METADATA_DISABLED"]
    m.environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = m.aws.url + "/"
    m.environment["http_proxy"] = "http://127.0.0.1:9"  # which is never asked
    m.environment["NO_PROXY"] = "127.0.0.1"  # for botocore
    return "INSTANCE"


PLACES = [
    set_environment, set_credentials_file, set_named_profile, set_config_file, set_web_identity,
    set_web_identity_of_a_profile, set_assumed_role, set_chain_of_roles, set_role_of_the_instance, set_sso_session,
    set_old_sso, set_expired_sso_session, set_process, set_container, set_container_token_file, set_instance,
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__.removeprefix("set_"))
def test_the_same_credentials_as_botocore(
    aws: FakeAws, tmp_path: pathlib.Path, place: Callable[[Machine], str]
) -> None:
    machine = Machine(aws, tmp_path / "home")
    expected = Keys.of(place(machine))
    assert machine.asker() == (expected.access, expected.token)
    if place is set_expired_sso_session:
        cached = json.loads(next((tmp_path / "home/.aws/sso/cache").iterdir()).read_text())
        assert cached["accessToken"] == aws.sso_token and cached["startUrl"] == "https://corp/start"
        assert cached["expiresAt"] > at(3000)
        set_expired_sso_session(machine)
    assert machine.botocore() == [expected.access, expected.secret, expected.token]


def set_nothing(m: Machine) -> str:
    return "no S3 credentials.*AWS_PROFILE"


def set_no_service(m: Machine) -> str:
    set_instance(m)
    m.environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = "http://127.0.0.1:9"
    return "no S3 credentials.*instance metadata service at http://127.0.0.1:9 does not answer"


def set_version_1(m: Machine) -> str:
    """Which hands credentials to whoever asks; botocore would take them."""
    set_instance(m)
    m.aws.instance_v2 = False
    return "no S3 credentials.*gives no token"


def set_half_of_them(m: Machine) -> str:
    m.environment["AWS_ACCESS_KEY_ID"] = Keys.of("ENV").access
    return "no S3 credentials: AWS_ACCESS_KEY_ID is set, AWS_SECRET_ACCESS_KEY is not"


def set_no_sso_login(m: Machine) -> str:
    set_sso_session(m)
    shutil.rmtree(m.home / ".aws/sso")
    return "aws sso login --profile p"


def set_sso_login_that_expired(m: Machine) -> str:
    set_old_sso(m)
    write_sso_token(m, "https://corp/start", {"accessToken": m.aws.sso_token, "expiresAt": at(-5)})
    return "expired; log in with: aws sso login --profile p"


def set_sso_login_that_was_revoked(m: Machine) -> str:
    set_sso_session(m)
    write_sso_token(m, "corp", {"accessToken": SECRET_WORD + "gone", "expiresAt": at(3600)})
    return "expired; log in with: aws sso login --profile p"


def set_refused_refresh(m: Machine) -> str:
    set_expired_sso_session(m)
    m.aws.sso_refresh = "another"
    return "expired; log in with: aws sso login --profile p"


def set_unknown_role(m: Machine) -> str:
    set_web_identity(m)
    m.aws.roles.clear()
    return r"STS for the role arn:aws:iam::1:role/pod: it answered with 403 \(AccessDenied\)"


def set_wrong_source(m: Machine) -> str:
    set_assumed_role(m)
    m.file(".aws/credentials", m.keys_file("BASE", "base"))
    del m.aws.known[Keys.of("BASE").access]
    return "it answered with 403"


def set_loop(m: Machine) -> str:
    role = "role_arn = arn:aws:iam::1:role/r\n"
    m.file(".aws/config", f"[profile p]\n{role}source_profile = q\n[profile q]\n{role}source_profile = p\n")
    m.environment["AWS_PROFILE"] = "p"
    return "leads back to itself"


def set_failing_process(m: Machine) -> str:
    m.file(".aws/config", "[default]\ncredential_process = false\n")
    return "credential_process of the profile 'default' failed with exit status 1"


def set_talking_process(m: Machine) -> str:
    m.file(".aws/config", f"[default]\ncredential_process = echo {SECRET_WORD}\n")
    return 'printed no JSON with "Version": 1'


def set_foreign_container(m: Machine) -> str:
    set_container(m)
    m.environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://example.com/container"
    return "without https it must be an address of this machine"


def set_closed_container(m: Machine) -> str:
    set_container(m)
    m.environment["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "wrong"
    return "container's credentials endpoint answered with 401"


def set_wrong_secret(m: Machine) -> str:
    set_environment(m)
    m.environment["AWS_SECRET_ACCESS_KEY"] = SECRET_WORD + "wrong"
    return "SignatureDoesNotMatch.*check the credentials and the region eu-west-3"


FAILURES = [
    set_nothing, set_no_service, set_version_1, set_half_of_them, set_no_sso_login, set_sso_login_that_expired,
    set_sso_login_that_was_revoked, set_refused_refresh, set_unknown_role, set_wrong_source, set_loop,
    set_failing_process, set_talking_process, set_foreign_container, set_closed_container, set_wrong_secret,
]  # fmt: skip


@pytest.mark.parametrize("failure", FAILURES, ids=lambda place: place.__name__.removeprefix("set_"))
def test_what_is_missing_is_named_and_no_secret_is(
    aws: FakeAws, tmp_path: pathlib.Path, failure: Callable[[Machine], str]
) -> None:
    machine = Machine(aws, tmp_path / "home")
    expected = failure(machine)
    done = machine.headrace()
    assert done.returncode == 1
    assert re.search(expected, done.stderr.replace("\n", " ")), done.stderr
    assert SECRET_WORD not in done.stdout + done.stderr and "AKIA" not in done.stdout + done.stderr


def test_a_token_that_expires_in_a_long_run_is_replaced_once(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", aws.url)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.url)
    catalog = hr.init("s3://bucket/x")
    table = catalog.create_table("t", {"n": "int64"})
    table.append([{"n": 0}])
    assert aws.instance_fetches == 1
    aws.instance_name = "SECOND"
    aws.refused.add(Keys.of("INSTANCE").access)
    failures: list[BaseException] = []

    def work(index: int) -> None:
        try:
            table.append([{"n": index}])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(row["n"] for row in table.scan()) == list(range(9))
    assert aws.instance_fetches == 2 and "expired" in aws.mistakes
    # Where no others are to be had, that is what is said.
    aws.refused.add(Keys.of("SECOND").access)
    aws.instance_v2 = False
    time.sleep(5.1)  # it was asked a moment ago
    with pytest.raises(hr.HeadraceError, match=r"the credentials for s3://bucket/x/ have expired.*gives no token"):
        table.append([{"n": 9}])


def test_new_credentials_that_the_store_does_not_know_yet_are_sent_again(aws: FakeAws, tmp_path: pathlib.Path) -> None:
    machine = Machine(aws, tmp_path / "home")
    set_process(machine)
    key = Keys.of("PROCESS").access
    aws.refused.add(key)
    threading.Timer(0.7, aws.refused.discard, [key]).start()
    done = machine.headrace()
    assert "there is no Headrace catalog" in done.stderr  # the store has let it look
    assert len([mistake for mistake in aws.mistakes if mistake == "expired"]) > 2
    aws.refused.add(key)  # for good
    done = machine.headrace()
    assert done.returncode == 1 and "ExpiredToken" in done.stderr
