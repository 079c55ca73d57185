package main

import (
	"testing"
	"time"
)

func TestBytesText(t *testing.T) {
	for n, want := range map[uint64][2]string{
		0:                    {"0 B", "0"},
		1023:                 {"1023 B", "1023"},
		1024:                 {"1.00 KiB", "1.0K"},
		10188:                {"9.95 KiB", "9.9K"},
		10189:                {"9.95 KiB", "10K"},
		1<<20 - 1:            {"1.00 MiB", "1.0M"},
		1023 << 10:           {"1023.00 KiB", "1.0M"},
		123456789:            {"117.74 MiB", "118M"},
		18446744073709551615: {"16.00 EiB", "16E"},
	} {
		if got := [2]string{bytesText(n), shortBytes(n)}; got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

func TestRateText(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 bit/s", 1: "8 bit/s", 124: "992 bit/s", 125: "1.0 kbit/s", 1243: "9.9 kbit/s", 1244: "10 kbit/s", 124937: "999 kbit/s",
		124938: "1.0 Mbit/s", 35125000: "281 Mbit/s", 1250000000: "10 Gbit/s", 18446744073709551615: "147573952590 Gbit/s",
	} {
		if got := rateText(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

func TestSpanText(t *testing.T) {
	for d, want := range map[time.Duration][2]string{
		-time.Hour:                   {"less than a second", "0s"},
		999 * time.Millisecond:       {"less than a second", "0s"},
		time.Second:                  {"1 second", "1s"},
		119 * time.Second:            {"1 minute, 59 seconds", "1m"},
		time.Hour + 59*time.Second:   {"1 hour", "1h"},
		26*time.Hour + 5*time.Minute: {"1 day, 2 hours", "1d"},
		400 * 24 * time.Hour:         {"1 year, 35 days", "1y"},
	} {
		if got := [2]string{spanText(d), shortSpan(d)}; got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

func TestDelayAndPercentText(t *testing.T) {
	for d, want := range map[time.Duration]string{
		87 * time.Microsecond: "87 µs", 40200 * time.Microsecond: "40.2 ms", 1234 * time.Millisecond: "1.23 s",
	} {
		if got := delayText(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
	for r, want := range map[float64]string{0: "0 %", 1: "100 %", 0.0125: "1.25 %", 0.1: "10 %", 0.001: "0.1 %"} {
		if got := percentText(r); got != want {
			t.Errorf("%v is %q, want %q", r, got, want)
		}
	}
}
