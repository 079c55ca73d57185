# Every setting of gw, with its default and why one would change it.
#
# The same file lies on every node of the network; only the local block is a
# machine's own. `gw validate -c FILE` checks a file, `gw fmt FILE` lays it out.
# -c may be given several times and may name a directory, whose *.hcl files are
# read in the order of their names: blocks add up, so the shared part and the
# local block may stand in files of their own.
#
# A running gateway takes over another policy, keepalive and log level by
# `gw reload`; all else takes a restart, through which connections live. `gw plan
# -c FILE` says what a file would do, and to which connections.
#
# Names of sites, nodes and rules: at most 28 letters, digits, "-" and "_".
# Times: a number with a unit, "50ms", "5s", "1m".

# A site is the hosts on one side of the firewall.
site "red" {
  # The networks that its hosts live in, as the other sites dial them. Required.
  # They may not overlap with those of another site. The other sites' gateways
  # route exactly these here, and accept only these as sources.
  subnets = ["10.77.1.0/24", "fd77:1::/64"]

  # One gw process. A site has one node, or two that make a pair.
  node "red-1" {
    # The node's WireGuard public key: `gw pubkey < private.key`. Required.
    public_key = "Uk3eDiQuodyqUvN4C8Ll3NzH3upXlQnHCUCcn5QCWCo="

    # The node's own address inside its site's subnets; it is put on the TUN as
    # a host address (/32, /128). Required. With IPv6: ["10.77.1.1", "fd77:1::1"].
    address = ["10.77.1.1", "fd77:1::1"]

    # Where others dial the node: "HOST:PORT", "[IPv6]:PORT" or a DNS name, which
    # is resolved again whenever the link is lost. Default: none. Required on the
    # side of a link that is dialled; on the side that dials it only fixes the
    # local port.
    # endpoint = "198.51.100.10:51820"

    # Where the other node of the pair dials this one: "HOST:PORT" outside the
    # tunnel, on the LAN or on a wire between the two; it may lie in the site's
    # own subnets. Default: the endpoint. Both nodes of a pair need one of the two.
    # It is the same socket as the endpoint's, so the same port, unless a NAT maps
    # the endpoint (see listen_port).
    sibling_endpoint = "192.168.1.1:51820"
  }

  # The second node of a pair takes over when the first one dies.
  node "red-2" {
    public_key       = "jLWXKtNvJfNpV4HSB+B9vMs4sgpPFgOpkt4UNsALWBc="
    address          = ["10.77.1.2", "fd77:1::2"]
    sibling_endpoint = "192.168.1.2:51820"
  }

  # How the two nodes stand in for each other. Only with two nodes; may be left
  # out then. Both must say the same: a pair that starts with another heartbeat,
  # dead_after or vip on either side is refused until that is mended. Other sites
  # are told nothing of it.
  pair {
    # The LAN address that the site's hosts use as the next hop toward the other
    # sites; the active node answers for it. With the length of the LAN's subnet;
    # a list for IPv4 and IPv6. It is nobody else's, and needs lan in the local
    # block of both nodes. Default: none, which suits hosts that run their own gw.
    vip = ["192.168.1.10/24", "fd77:1::10/64"]

    # Time between two heartbeats, 10ms to 5s. Default "50ms". Raise it where
    # nodes are stopped for longer now and then, as on a crowded hypervisor.
    heartbeat = "50ms"

    # Silence after which the sibling counts as dead, if its host says that its
    # process is gone (ICMP port unreachable: let it pass between the two). One
    # that is only silent, because the host is down or too busy, is given twice as
    # long. Twice the heartbeat at least, 10s at most. Default "150ms". Longer means
    # fewer needless takeovers and a longer stall in a real one.
    dead_after = "150ms"

    # Commands run when the node becomes active, and when it ceases to be: the
    # program's whole path and its arguments, one an entry. No shell reads them.
    # Their output is logged, and nothing waits for them. Default: none. They are
    # for clouds, where ARP moves no address and an interface has to be called.
    on_active  = ["/usr/local/bin/move-address", "to-me"]
    on_standby = ["/usr/local/bin/move-address", "away"]

    # Time after which such a command is killed, 1s to 10m. Default "30s".
    command_timeout = "30s"

    # After a takeover and after a link's return, tell the senders of bytes in
    # flight by ICMP "host unreachable" to try again at once (RFC 6069), instead
    # of after their time-out. Default true. Set it to false where that ICMP
    # disturbs a host's monitoring.
    wake = true
  }
}

site "gray" {
  subnets = ["10.77.2.0/24", "fd77:2::/64"]

  node "gray-1" {
    public_key = "6j0BbSsE8Xa6ovqMfKBhnDLRTAM8rPHJxUBBPuGcjS4="
    address    = ["10.77.2.1", "fd77:2::1"]
    endpoint   = "203.0.113.10:51820"
  }
}

# A link joins two sites; at most one between any two. Sites without a link
# don't reach each other, not even by way of a third.
link "red" "gray" {
  # The site that dials: the one that the firewall lets out. Required. The other
  # site needs an endpoint; it never sends the first packet.
  initiator = "red"

  # Time between two packets when there is nothing to say. Default "5s", whole
  # seconds. It must be shorter than the time after which the firewall forgets
  # an idle UDP flow, or the dialled side can't be heard any more.
  keepalive = "5s"
}

# Who may open connections to whom. What no rule allows is denied, and answered
# with ICMP "administratively prohibited"; replies always pass. The first rule
# that matches counts. Several policy blocks add up.
policy {
  rule "replication" {
    # Who opens: sites, nodes, prefixes or addresses, all inside the sites above.
    # Required. A site's name does not cover its gateways' own addresses, unless
    # the site consists of nothing else. A node's name covers the gateway itself.
    from = ["gray", "gray-1"]

    # Who is called. Required.
    to = ["10.77.1.10"]

    # "tcp/5432", "tcp/5000-5010", "udp/53", "tcp" or "udp" for all ports,
    # "icmp" for ICMP and ICMPv6, "any" for every protocol. Required.
    ports = ["tcp/5432", "icmp"]

    # How TCP is carried: "auto" forwards packet by packet, and relays a
    # connection while it moves bulk over a WAN; "relay" does so from the first
    # byte; "route" never does. Default "auto". Only for rules with TCP.
    mode = "auto"
  }
}

# What may differ from machine to machine. It is never compared with the other
# nodes and never leaves the machine. The block may be left out, and so may
# every setting. Relative paths start at the directory of the file.
local {
  # This node's private key; it decides which of the nodes above this one is.
  # The file must be readable by its owner alone (mode 0600). Default: the one
  # *.key file beside the configuration that belongs to a node. --key overrides
  # it.
  private_key_file = "/etc/gw/private.key"

  # Where the node keeps the records of its connections, so that a restart
  # doesn't break them. Default "/var/lib/gw/NODE". Must survive a restart of the
  # process; it need not survive one of the machine.
  state_dir = "/var/lib/gw/red-1"

  # The unix socket that `gw status` and `gw conns` talk to. Default
  # "/run/gw/NODE.sock". Tell the commands with --socket when it is elsewhere.
  socket = "/run/gw/red-1.sock"

  # The interface toward the site's hosts. Default: none, which suits a host that
  # runs its own gw. A pair with a vip needs it.
  lan = "eth0"

  # The UDP port that WireGuard listens on. Default: the port of the node's own
  # endpoint, or else of its sibling_endpoint; without one, 0: any free port. Set
  # it where a firewall matches the source port, or where a NAT maps the endpoint
  # to another port.
  listen_port = 51820

  # Hold every segment that a relayed connection brings to a database against what
  # the other one has said: bytes, acknowledgement, window, flags. One that does not
  # hold is dropped and counted, and the connection goes on raw. It should never
  # happen; switch it on to be sure, or when told to. Default false: it costs time.
  check = false

  # What `gw trace` on another site may learn from this node: "verdict" is whether
  # a packet passes here, "full" adds the rule with its place in the file, the
  # state of the connection and sizes. Default "verdict": where a site is expected
  # to be broken into one day, it must not read this site's policy. The node's own
  # site always gets the full answer.
  answers = "verdict"

  # The tunnel device.
  tun {
    # Its name. Default "gw0". Change it to run several gateways on one host.
    name = "gw0"

    # Its MTU in bytes: 576 to 65535, with IPv6 at least 1280. Default 1420, which
    # fits a path of 1500 with WireGuard over IPv6. Lower it for smaller paths
    # (1412 for PPPoE); what really passes is measured in any case.
    mtu = 1420

    # "offload" moves whole segments of up to 64 KB between kernel and gateway;
    # "water" moves single packets, for kernels where offload misbehaves. Default
    # "offload".
    driver = "offload"

    # Keep the device when the process ends, so that a restart doesn't disturb
    # sockets bound to it. Default false: it goes with the process.
    persist = false

    # Congestion control for the routes to the other sites. Default: the host's
    # own. "bbr" gains much over a lossy WAN for a host that runs its own gw; the
    # kernel must have it (sysctl net.ipv4.tcp_available_congestion_control).
    congctl = "bbr"
  }

  # Metrics for Prometheus, and /healthz and /readyz.
  status {
    # Address and port. Default: not served. There is no access control: keep it
    # on a loopback or management address.
    listen = "127.0.0.1:9770"
  }

  # Who was connected to whom: a line of JSON when a connection opens, with rule
  # and file:line, one when it ends, with bytes, duration and reason, and one for
  # each change of roles and each reload.
  audit {
    # A file, which is appended to and reopened on SIGUSR1, or "stdout", which systemd
    # hands to its journal. Default: nothing is written. Connections never wait for
    # it: lines that it can't take are lost, counted, and it says so itself.
    to = "/var/log/gw/audit.log"
  }

  # Logs go to standard error.
  log {
    # "trace", "debug", "info", "warn" or "error". Default "info".
    level = "info"

    # One JSON object a line instead of text. Default false.
    json = false
  }

  # What `gw capture --last 60s` can still show: the headers of the latest packets on
  # both sides of the gateway, with the rule and why one was dropped. No payload.
  capture {
    # MiB of memory for that; one takes about 10,000 packets. Those that begin, end or
    # refuse a connection have half of it for themselves. Default 4. 0 keeps nothing,
    # which saves about 3 % of the gateway's CPU time in bulk; `gw capture` without
    # --last still works.
    memory = 4
  }

  # What the node holds at most. Reaching a limit is counted and shown by
  # `gw status`, and ends nothing that is there. The process's memory limit follows
  # from them; `gw up` logs it. Lower them on small machines. Raise them where drops
  # are counted and memory is left, and MemoryHigh and MemoryMax of gw.service with
  # them.
  limits {
    # Connections, UDP and ICMP flows. Default 131072, which take 64 MB; one site
    # may fill three quarters. Beyond: drop reasons table-full, site-full.
    flows = 131072

    # Connections that are relayed at a time. Default 4096; each takes some 30 KB and
    # what is under way. Beyond: the connection is carried packet by packet.
    relays = 4096

    # MiB for what trunks, which carry relayed connections, have sent and the other
    # gateway has not acknowledged, or have received too early. Default 64; one other
    # gateway may fill half. A path of 1 Gbit/s with a round trip of 250 ms takes 32.
    # Beyond: the sender waits, or the connection is carried packet by packet.
    trunks = 64

    # MiB for fragments that wait for the rest of their packet, each way. Default 4;
    # one source may fill a quarter. Beyond: the oldest go, drop reason
    # fragment-limit.
    fragments = 4

    # MiB for the file of records in state_dir. Default 32, some 250,000
    # connections. Beyond: a connection is not known after a restart.
    records = 32

    # MiB for the file of the audit log. Default 1024, some 3,000,000 lines. What is
    # written stays; beyond 7/8 lines about connections are lost and counted until the
    # file is moved away, the rest is for denials, roles and reloads.
    audit = 1024
  }
}
