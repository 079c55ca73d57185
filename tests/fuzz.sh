#!/usr/bin/env bash
# Runs fuzz targets beyond their seeds:
#
#   tests/fuzz.sh each TIME     every target of the module, each for TIME
#   tests/fuzz.sh listed TIME   the targets of tests/fuzz.list, for TIME seconds together
#
# An input that fails goes to testdata/fuzz of its package: commit it, with the fix. Inputs that
# reach new code stay in Go's build cache (`go env GOCACHE`) and are where the next run begins.
set -euo pipefail
cd "$(dirname "$0")/.."

each() { # as in the list
	git grep -oE '^func Fuzz[A-Za-z0-9_]+' -- '*_test.go' | sed -E 's|^(.*)/[^/]*:func (.*)$|./\1 \2|'
}

case ${1-} in
each) targets=$(each) time=${2:-30s} ;;
listed)
	targets=$(grep -v '^#' tests/fuzz.list)
	total=${2:-60s}
	time=$((${total%s} / $(wc -l <<<"$targets")))s
	;;
*)
	sed -n '2,8p' "$0" >&2
	exit 2
	;;
esac
while read -r pkg target; do
	go test -vet=off -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 100x "$pkg" </dev/null
done <<<"$targets"
