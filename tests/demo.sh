#!/usr/bin/env bash
# What gw is for, on one machine, in less than two minutes: installs what is
# missing, builds, and plays tests/demo. Needs root, for network namespaces.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/local/go/bin"

if [[ $EUID -ne 0 ]]; then
	echo "the demo makes network namespaces: run it as root" >&2
	exit 1
fi
build() {
	make -s --no-print-directory build
	# With the flags of make build, so that what both need is compiled once.
	CGO_ENABLED=0 go build -trimpath -o bin/gw-demo ./tests/demo
}

echo "Installing what is missing, and building: a minute at the first time …"
if command -v go >/dev/null; then
	build &
	building=$!
	./tests/deps.sh demo || { kill "$building"; exit 1; }
	wait "$building"
else
	./tests/deps.sh demo
	build
fi
exec bin/gw-demo -gw bin/gw
