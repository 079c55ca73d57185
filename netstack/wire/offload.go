package wire

// Offload says what of a packet's making was left to a device, as a virtio-net
// header does (Virtual I/O Device 1.2, section 5.1.6). The zero value is a
// packet that stands finished, its checksums included.
type Offload struct {
	// GSOSize is the number of payload bytes in each of the TCP segments that
	// the packet is to be cut into; 0 means that it is not to be cut.
	GSOSize uint16
	// HdrLen is the length in bytes of the IP and TCP headers together. It is
	// set whenever GSOSize is.
	HdrLen uint16
	// NeedsCsum says that the checksum field at CsumStart+CsumOffset holds only
	// the sum of the pseudo-header, and that whoever lets the packet out of the
	// machine finishes it. The payload is then known to be good: it comes from
	// a socket of this host or from segments that its kernel has checked.
	NeedsCsum bool
	// CsumStart is where the sum begins, in bytes from the start of the packet.
	CsumStart uint16
	// CsumOffset is where the sum is to be stored, in bytes from CsumStart.
	CsumOffset uint16
	// CsumValid says that the device has checked the transport checksum.
	CsumValid bool
}
