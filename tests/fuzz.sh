#!/usr/bin/env bash
# Runs every fuzz target of the module for a while: tests/fuzz.sh 5s
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-5s}
git grep -hoE --full-name '^func Fuzz[A-Za-z0-9_]+' -- '*_test.go' >/dev/null || exit 0
git grep -lE '^func Fuzz' -- '*_test.go' | while read -r file; do
	pkg=./$(dirname "$file")
	grep -oE '^func Fuzz[A-Za-z0-9_]+' "$file" | sed 's/^func //' | while read -r target; do
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$pkg"
	done
done
