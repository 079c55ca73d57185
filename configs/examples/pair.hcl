# A pair of gateways in site red: when the active one dies, the other goes on with
# every connection. The databases' route to the other site has the vip as its
# next hop:
#   ip route add 10.77.2.0/24 via 192.168.1.10
#
# Gray has one gateway here; it may have a pair too. Both nodes of red dial it.

site "red" {
  subnets = ["192.168.1.0/24", "10.77.1.0/24"]

  node "red-1" {
    public_key       = "Uk3eDiQuodyqUvN4C8Ll3NzH3upXlQnHCUCcn5QCWCo="
    address          = "10.77.1.1"
    sibling_endpoint = "192.168.1.251:51820" # its own address on the LAN
  }

  node "red-2" {
    public_key       = "jLWXKtNvJfNpV4HSB+B9vMs4sgpPFgOpkt4UNsALWBc="
    address          = "10.77.1.2"
    sibling_endpoint = "192.168.1.252:51820"
  }

  pair {
    vip = "192.168.1.10/24"
  }
}

site "gray" {
  subnets = ["10.77.2.0/24"]

  node "gray-1" {
    public_key = "6j0BbSsE8Xa6ovqMfKBhnDLRTAM8rPHJxUBBPuGcjS4="
    address    = "10.77.2.1"
    endpoint   = "203.0.113.10:51820"
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

  # A site's name does not cover its gateways' own addresses, so these are named.
  rule "ping" {
    from  = ["red", "gray", "red-1", "red-2", "gray-1"]
    to    = ["red", "gray", "red-1", "red-2", "gray-1"]
    ports = ["icmp"]
  }
}

local {
  private_key_file = "/etc/gw/private.key"
  lan              = "eth0" # where the vip is answered for
}
