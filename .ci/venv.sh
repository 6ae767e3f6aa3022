#!/bin/sh
# Make .venv complete. usage: .ci/venv.sh run|test    (run: the package; test: with [test,lint])
# A stamp inside .venv is written last and removed first, so that a set-up that was interrupted
# anywhere has none and is made anew: pip does not notice every half-written package.
# Exit 2 with what to type when something is missing.
set -eu
cd "$(dirname "$0")/.."
level=${1:?usage: .ci/venv.sh run|test}
case $level in run) what=. ;; test) what='.[test,lint]' ;; *) echo "no such level: $level" >&2; exit 2 ;; esac
venv=.venv
log=.cache/setup.log

missing() { # package, what is missing
    echo "wspilot: $2" >&2
    as=; [ "$(id -u)" = 0 ] || as='sudo '
    echo "  on Debian or Ubuntu: ${as}apt-get update && ${as}apt-get install -y $1" >&2
    exit 2
}

give_up() { # what failed, what to look at
    tail -n 15 "$log" >&2
    echo "wspilot: $1 (all it said: $log)" >&2
    echo "  look at: $2, then run make again" >&2
    exit 2
}

# The directory is part of the stamp: scripts in a venv name it, so a moved clone needs a new one.
wanted() { { pwd; cat pyproject.toml; } | sha256sum | cut -d' ' -f1; }

finished() { # level
    [ -f "$venv/.ready-$1" ] && [ "$(cat "$venv/.ready-$1")" = "$(wanted)" ] && "$venv/bin/python" -c '' 2>/dev/null
}
ready() { finished test || { [ "$level" = run ] && finished run; }; }

find_python() {
    for p in ${PYTHON:-} python3 python3.15 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
        path=$(command -v "$p" 2>/dev/null) || continue
        "$path" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$path"; return; }
    done
    return 1
}

make_venv() {
    python=$(find_python) || missing python3 'Python 3.11 or newer was not found'
    "$python" -c 'import venv, ensurepip' 2>/dev/null || missing python3-venv "$python cannot make a virtual environment"
    rm -rf "$venv"
    "$python" -m venv "$venv" >"$log" 2>&1 || give_up "$python could not make $venv" "$python -m venv $venv"
}

install() {
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input -e "$what" >"$log" 2>&1 ||
        give_up 'pip could not install the package' "pip config list   (a package index must be reachable)"
}

ready && exit 0
for tool in sha256sum flock tail; do
    command -v "$tool" >/dev/null 2>&1 || missing 'coreutils util-linux' "the command $tool is missing"
done
[ -w . ] || { echo "wspilot: $(pwd) is not writable by $(id -un): clone it to a directory of your own" >&2; exit 2; }
mkdir -p .cache
exec 9>.cache/venv.lock
flock 9                                   # a second make waits for the first, then finds it done
ready && exit 0
# ensurepip and pip leave their temporary directories behind when Ctrl-C ends them.
export TMPDIR="$PWD/.cache/tmp"
clear_up() { rm -rf "$TMPDIR"; }
clear_up
mkdir "$TMPDIR"
trap clear_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
start=$(date +%s)
echo "setting up $venv ($what) ..."
if [ -f "$venv/.ready-run" ] || [ -f "$venv/.ready-test" ]; then
    finished run || { rm -f "$venv"/.ready-*; make_venv; }
    rm -f "$venv"/.ready-*
else
    make_venv
fi
install 9>&-
wanted >"$venv/.ready-$level.new"
mv "$venv/.ready-$level.new" "$venv/.ready-$level"
echo "$venv is ready ($(($(date +%s) - start)) s)"
