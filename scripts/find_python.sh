#!/bin/sh
# Prints the interpreter to build the environment with: $PYTHON when it is set, else the first that fits.
# Every candidate is run, not just looked up: a version manager's stand-in may be on the PATH with nothing behind it.
set -eu

# The locked packages have wheels up to 3.14; a newer Python may need a compiler, so it comes second.
tested='sys.exit(not (3, 11) <= sys.version_info < (3, 15))'
enough='sys.exit(sys.version_info < (3, 11))'

fits() { "$1" -c "import sys; $2" >/dev/null 2>&1; }

if [ -n "${PYTHON:-}" ]; then
    candidates=$PYTHON
else
    candidates='python3 python3.13 python3.12 python3.14 python3.11 python'
fi

for rule in "$tested" "$enough"; do
    for python in $candidates; do
        if fits "$python" "$rule"; then
            printf '%s\n' "$python"
            exit 0
        fi
    done
done

found=
for python in $candidates; do
    if version=$("$python" --version 2>&1); then
        found="$found $python is $version;"
    fi
done
{
    echo "Python 3.11 or newer is needed, and none was found (tried: $candidates)."
    [ -z "$found" ] || echo "Too old:${found%;}."
    echo "Install one, or name it: make install PYTHON=/path/to/python3.12"
} >&2
exit 1
