site "red" {
  subnetz = ["10.77.1.0/24"]
  subnets = ["10.77.1.0/24", "10.88.0.0/24", "10.99.0.0/24", "10.111.0.0/24", "10.112.0.1/24"]
  node "red-1" {
	public_key = "Uk3eDiQuodyqUvN4C8Ll3NzH3upXlQnHCUCcn5QCWCo"
	address    = "10.77.9.1" # über
  }
}

site "gray" {
  subnets = ["10.77.2.0/24", "10.77.0.0/16"]
  node "gray-1" {
    public_key = "6j0BbSsE8Xa6ovqMfKBhnDLRTAM8rPHJxUBBPuGcjS4="
    address    = "10.77.2.1"
  }
}

link "red" "grey" {
  initiator = "red"
}

policy {
  rule "replication" {
    from  = [ "grey", "10.77.2.0/24" /* a comment that pushes the rest of the line far out to the right */, "rad", "red" ]
    to    = ["red"]
    ports = ["tpc/5432"]
    mode  = relay
  }
}
