#!/usr/bin/env bash
# The licence texts of everything that the wheel carries, one file each: tools/licences.sh CACHE STAGE OUT
set -euo pipefail
cache=$1 deps=$1/deps stage=$2 out=$3
rm -rf "$out"; mkdir -p "$out"
cp "$deps"/pyarrow-*/pyarrow-*.dist-info/licenses/LICENSE.txt "$out/arrow.txt"
cp "$deps"/pyarrow-*/pyarrow-*.dist-info/licenses/NOTICE.txt "$out/arrow-NOTICE.txt"
tar -xzOf "$cache"/downloads/duckdb-node-bindings-*.tgz package/LICENSE >"$out/duckdb.txt"
cp "$deps"/llama-0.5.0/LICENSE "$out/llama.cpp.txt"
cp "$deps"/xgrammar-*/src/LICENSE "$out/xgrammar.txt"
cp "$deps"/xgrammar-*/src/NOTICE "$out/xgrammar-NOTICE.txt"
# Debian's: compiled in from headers, and every library that the program and the modules load from the system.
for package in nlohmann-json3-dev libcli11-dev libprotozero-dev libboost1.81-dev; do cp "/usr/share/doc/$package/copyright" "$out/$package.txt"; done
for file in "$stage"/bin/headrace "$stage"/lib/headrace/python/headrace/*.so; do
  LD_LIBRARY_PATH=$stage/lib/headrace ldd "$file" | awk '$3 ~ /^\/(usr\/)?lib\// { print $3 }'
done | sort -u | while read -r library; do
  # glibc, libstdc++ and libgcc are the system's in every wheel (PEP 600).
  case $library in */libc.so*|*/libm.so*|*/libdl.so*|*/libpthread.so*|*/librt.so*|*/libresolv.so*|*/libstdc++.so*|*/libgcc_s.so*) continue ;; esac
  package=$(dpkg -S "$library" "/usr$library" "$(readlink -f "$library")" 2>/dev/null | head -1 | cut -d: -f1) || true
  [ -n "$package" ] || { echo "no Debian package holds $library" >&2; exit 1; }
  cp "/usr/share/doc/$package/copyright" "$out/$package.txt"
done
