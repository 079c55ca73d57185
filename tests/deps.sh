#!/usr/bin/env bash
# Installs what the tests and the demo need on a Debian machine and is not there.
set -euo pipefail
export PATH="$PATH:/usr/local/go/bin"

need=()
command -v make >/dev/null || need+=(make)
command -v git  >/dev/null || need+=(git)
command -v gcc  >/dev/null || need+=(gcc libc6-dev)           # for the race detector
command -v ip   >/dev/null || need+=(iproute2)
command -v nft >/dev/null || need+=(nftables)
command -v tcpdump >/dev/null || need+=(tcpdump) # reads what gw capture writes
command -v runuser >/dev/null || need+=(util-linux)
command -v systemd-analyze >/dev/null || need+=(systemd) # what the unit may do; it need not run
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || need+=(postgresql)
ls /usr/lib/postgresql/*/bin/pgbench  >/dev/null 2>&1 || need+=(postgresql-contrib)
want=$(awk '$1=="go"{print $2}' "$(dirname "$0")/../go.mod")
command -v go >/dev/null || need+=(golang-go ca-certificates)
if ((${#need[@]})); then
	if [[ $EUID -ne 0 ]]; then
		echo "missing: ${need[*]}; run this as root, or install them" >&2
		exit 1
	fi
	# No cluster of the distribution's own: the tests make theirs.
	mkdir -p /etc/postgresql-common
	[[ -e /etc/postgresql-common/createcluster.conf ]] ||
		echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
	apt-get update -qq
	# From 1.21 on (Debian 13 has it) Go fetches the version that go.mod names.
	candidate=$(apt-cache policy golang-go | awk '$1=="Candidate:"{print $2}')
	if [[ " ${need[*]} " == *" golang-go "* ]] && ! dpkg --compare-versions "${candidate:-0}" ge 2:1.21; then
		echo "Go $want or newer is missing: install it from https://go.dev/dl and put it on the PATH" >&2
		exit 1
	fi
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi
