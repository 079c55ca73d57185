package wire

// Offload lists the work on a packet that was left to a device, as a virtio-net
// header does (Virtual I/O Device 1.2, section 5.1.6). The zero value is a
// packet that stands finished, its checksums included.
type Offload struct {
	// GSOSize is the number of payload bytes in each of the TCP segments that
	// the packet must be cut into; 0 means that it must not be cut.
	GSOSize uint16
	// HdrLen is the length in bytes of the IP and TCP headers together. It is
	// set whenever GSOSize is.
	HdrLen uint16
	// NeedsCsum reports that the checksum field at CsumStart+CsumOffset holds only
	// the sum of the pseudo-header, and that the device that sends the packet out
	// finishes it. The payload is then known to be good: it comes from
	// a socket of this host or from segments that its kernel has checked.
	NeedsCsum bool
	// CsumStart is where the sum begins, in bytes from the start of the packet.
	CsumStart uint16
	// CsumOffset is where the device stores the sum, in bytes from CsumStart.
	CsumOffset uint16
	// CsumValid reports that the device has checked the transport checksum.
	CsumValid bool
}
