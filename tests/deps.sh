#!/usr/bin/env bash
# Installs what the tests need and a Debian machine lacks; with the argument `demo`, only what the
# demo needs. `make test` and `make demo` call it.
set -euo pipefail
export PATH="$PATH:/usr/local/go/bin"

need=()
command -v make >/dev/null || need+=(make)
command -v git  >/dev/null || need+=(git)
command -v ip   >/dev/null || need+=(iproute2)
command -v nft  >/dev/null || need+=(nftables)
command -v runuser >/dev/null || need+=(util-linux)
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || need+=(postgresql)
ls /usr/lib/postgresql/*/bin/pgbench  >/dev/null 2>&1 || need+=(postgresql-contrib)
if [[ ${1-} != demo ]]; then
	command -v gcc             >/dev/null || need+=(gcc libc6-dev) # for the race detector
	command -v tcpdump         >/dev/null || need+=(tcpdump)       # reads what gw capture writes
	command -v systemd-analyze >/dev/null || need+=(systemd)       # what the unit may do; it need not run
	command -v promtool        >/dev/null || need+=(prometheus)    # reads the alert rules and the dashboard
fi
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
	# No Prometheus server: the tests want promtool only. Where the package is installed, its unit is
	# the administrator's.
	if [[ " ${need[*]} " == *" prometheus "* && ! -e /etc/systemd/system/prometheus.service ]]; then
		mkdir -p /etc/systemd/system
		ln -s /dev/null /etc/systemd/system/prometheus.service # as systemctl mask does
	fi
	apt-get update -qq
	# From 1.21 on (Debian 13 has it) Go fetches the version that go.mod names.
	candidate=$(apt-cache policy golang-go | awk '$1=="Candidate:"{print $2}')
	if [[ " ${need[*]} " == *" golang-go "* ]] && ! dpkg --compare-versions "${candidate:-0}" ge 2:1.21; then
		echo "Go $want or newer is missing: install it from https://go.dev/dl and put it on the PATH" >&2
		exit 1
	fi
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi
