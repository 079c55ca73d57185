# Two sites with one gateway each. Red may dial out, gray may not dial in; the
# databases on both sides reach each other nevertheless.
#
# The keys below are examples. Make your own on each machine:
#   (umask 077; gw genkey > /etc/gw/private.key)
#   gw pubkey < /etc/gw/private.key

site "red" {
  subnets = ["10.77.1.0/24", "fd77:1::/64"]

  node "red-1" {
    public_key = "Uk3eDiQuodyqUvN4C8Ll3NzH3upXlQnHCUCcn5QCWCo="
    address    = ["10.77.1.1", "fd77:1::1"]
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

link "red" "gray" {
  initiator = "red"
}

policy {
  # Each side's subscription dials the other side's PostgreSQL.
  rule "replication" {
    from  = ["red", "gray"]
    to    = ["red", "gray"]
    ports = ["tcp/5432"]
  }

  # A site's name does not cover its gateways' own addresses, so these are named.
  rule "ping" {
    from  = ["red", "gray", "red-1", "gray-1"]
    to    = ["red", "gray", "red-1", "gray-1"]
    ports = ["icmp"]
  }
}

local {
  private_key_file = "/etc/gw/private.key"
}
