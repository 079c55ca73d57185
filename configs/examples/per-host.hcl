# Two database hosts that each run their own gateway: no other host is involved,
# so a site is the one host and its one address. The database binds to the
# node's address, or to all. Since there is nothing else in the site, a rule that
# names it covers the gateway's own address, which it does not elsewhere.
#
# Over a lossy WAN the congestion control of the routes matters most: bbr.

site "red" {
  subnets = ["10.77.1.1/32"]

  node "red-db" {
    public_key = "Uk3eDiQuodyqUvN4C8Ll3NzH3upXlQnHCUCcn5QCWCo="
    address    = "10.77.1.1"
  }
}

site "gray" {
  subnets = ["10.77.2.1/32"]

  node "gray-db" {
    public_key = "6j0BbSsE8Xa6ovqMfKBhnDLRTAM8rPHJxUBBPuGcjS4="
    address    = "10.77.2.1"
    endpoint   = "gray-db.example.com:51820"
  }
}

link "red" "gray" {
  initiator = "red"
}

policy {
  rule "replication" {
    from  = ["red", "gray"]
    to    = ["red", "gray"]
    ports = ["tcp/5432"]
  }
}

local {
  private_key_file = "/etc/gw/private.key"

  tun {
    persist = true # the database's sockets live through a restart of gw
    congctl = "bbr"
  }
}
