package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Nstat is a snapshot of a namespace's protocol counters, by names such as
// "Tcp.RetransSegs", "TcpExt.TCPTimeouts", "Ip6.OutNoRoutes".
type Nstat map[string]uint64

// Nstat reads /proc/net/snmp, netstat and snmp6 of the namespace.
func (n *Namespace) Nstat() (Nstat, error) {
	s := Nstat{}
	err := n.Do(func() error {
		// Not /proc/net, which is the main thread's.
		for _, name := range []string{"snmp", "netstat"} {
			b, err := os.ReadFile("/proc/thread-self/net/" + name)
			if err != nil {
				return err
			}
			if err := s.addPairs(string(b)); err != nil {
				return fmt.Errorf("/proc/net/%s: %w", name, err)
			}
		}
		b, err := os.ReadFile("/proc/thread-self/net/snmp6")
		if err != nil {
			return err
		}
		return s.addLines(string(b))
	})
	if err != nil {
		return nil, fmt.Errorf("read counters of the kernel: %w", err)
	}
	return s, nil
}

// addPairs adds a line of names and a line of values for each protocol.
func (s Nstat) addPairs(text string) error {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		if len(names) != len(values) || len(names) == 0 || names[0] != values[0] {
			return fmt.Errorf("line %d doesn't match line %d", i+1, i+2)
		}
		proto := strings.TrimSuffix(names[0], ":")
		for j := 1; j < len(names); j++ {
			// MaxConn is -1.
			if v, err := strconv.ParseUint(values[j], 10, 64); err == nil {
				s[proto+"."+names[j]] = v
			}
		}
	}
	return nil
}

// addLines adds snmp6's lines of name and value.
func (s Nstat) addLines(text string) error {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 2 {
			return fmt.Errorf("/proc/net/snmp6: line %q", line)
		}
		v, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			return fmt.Errorf("/proc/net/snmp6: %w", err)
		}
		for _, proto := range []string{"Ip6", "Icmp6", "UdpLite6", "Udp6"} {
			if name, ok := strings.CutPrefix(f[0], proto); ok {
				s[proto+"."+name] = v
				break
			}
		}
	}
	return nil
}

// Since is what has been counted between before and s.
func (s Nstat) Since(before Nstat) Nstat {
	d := Nstat{}
	for k, v := range s {
		d[k] = v - before[k]
	}
	return d
}
