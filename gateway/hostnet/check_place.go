package hostnet

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A place is where this process runs, as far as advice depends on it.
type place struct {
	// container names the manager of the container: docker, podman, kubernetes, or what systemd
	// knows it by (lxc, systemd-nspawn). It is empty outside of containers.
	container string
	// service says that systemd started this process.
	service bool
	// frozen says that settings of the kernel cannot be changed from here.
	frozen bool
}

// here returns the place of this process.
func here() place { return placeOf("/", os.Getenv) }

func placeOf(root string, getenv func(string) string) place {
	exists := func(name string) bool {
		_, err := os.Stat(filepath.Join(root, name))
		return err == nil
	}
	var p place
	manager, _ := os.ReadFile(filepath.Join(root, "run/systemd/container")) // systemd inside it writes this
	switch {
	case getenv("KUBERNETES_SERVICE_HOST") != "":
		p.container = kubernetes
	case exists("run/.containerenv"):
		p.container = podman
	case exists(".dockerenv"):
		p.container = docker
	case len(manager) > 0:
		p.container = strings.TrimSpace(string(manager))
	}
	p.service = getenv("SYSTEMD_EXEC_PID") == strconv.Itoa(os.Getpid())
	p.frozen = unix.Access(filepath.Join(root, "proc/sys/net/ipv4/ip_forward"), unix.W_OK) == unix.EROFS
	return p
}

// Managers of containers.
const (
	docker     = "docker"
	podman     = "podman"
	kubernetes = "kubernetes"
	lxc        = "lxc"
	nspawn     = "systemd-nspawn"
)

// allowDevice gives the process the TUN's node and the permission of its device cgroup.
func (p place) allowDevice() string {
	switch p.container {
	case docker, podman:
		return "start the container with: " + p.container + " run --device " + tunPath
	case kubernetes:
		return "mount the node's " + tunPath + " with a hostPath of type CharDevice, and allow it: a device plugin, or securityContext.privileged"
	case lxc:
		return "add to the container's configuration: lxc.cgroup2.devices.allow = c 10:200 rwm, and lxc.mount.entry = " + tunPath + " dev/net/tun none bind,create=file"
	case nspawn:
		return "start the container with: systemd-nspawn --bind=" + tunPath + " --property='DeviceAllow=" + tunPath + " rw'"
	case "":
		return "systemctl edit gw, and write below [Service]: DeviceAllow=" + tunPath + " rw"
	}
	return "allow the container the device " + tunPath
}

// onHost is a command for what only the host as a whole has: its kernel's modules and limits.
func (p place) onHost(cmd string) string {
	if p.container != "" {
		return "on the container's host: " + cmd
	}
	return cmd
}

// addCapabilities gives the process capabilities, by their names without the prefix CAP_.
func (p place) addCapabilities(names []string) string {
	prefixed := func(prefix, separator string) string { return prefix + strings.Join(names, separator+prefix) }
	switch {
	case p.container == docker, p.container == podman:
		return "start the container with: " + p.container + " run " + prefixed("--cap-add=", " ")
	case p.container == kubernetes:
		return "securityContext.capabilities.add: [" + strings.Join(names, ", ") + "]"
	case p.container == nspawn:
		return "start the container with: systemd-nspawn --capability=" + prefixed("CAP_", ",")
	case p.container != "":
		return "allow the container " + prefixed("CAP_", " ")
	case p.service:
		return "systemctl edit gw, and write below [Service]: AmbientCapabilities=" + prefixed("CAP_", " ")
	}
	exe, err := os.Executable()
	if err != nil {
		exe = "gw"
	}
	return "setcap " + strings.ToLower(prefixed("cap_", ",")) + "=ep " + exe
}

// setSysctl sets one or more settings, by their paths below /proc/sys.
func (p place) setSysctl(value string, paths ...string) string {
	if p.container == "" || !p.frozen {
		cmd := "sysctl -w"
		for _, path := range paths {
			cmd += " " + sysctlKey(path) + "=" + value
		}
		return cmd
	}
	// The settings of an interface cannot be set before the interface is there. Those of all
	// interfaces count as well.
	var keys []string
	done := map[string]bool{}
	for _, path := range paths {
		path = ofAll(path)
		if !done[path] {
			done[path] = true
			keys = append(keys, sysctlKey(path)+"="+value)
		}
	}
	switch p.container {
	case docker, podman:
		return "start the container with: " + p.container + " run --sysctl " + strings.Join(keys, " --sysctl ")
	case kubernetes:
		return "securityContext.sysctls: " + strings.Join(keys, ", ")
	}
	return "on the container's host, in the container's network namespace: sysctl -w " + strings.Join(keys, " ")
}

// ofAll returns the setting of the whole host that takes the place of one of an interface.
func ofAll(path string) string {
	dir, name := filepath.Split(path)
	parent := filepath.Dir(filepath.Clean(dir))
	switch {
	case parent == "net/ipv4/conf" && name == "forwarding":
		return "net/ipv4/ip_forward"
	case parent == "net/ipv6/conf" && name == "force_forwarding":
		return forwarding6
	case parent == "net/ipv4/conf", parent == "net/ipv6/conf":
		return parent + "/all/" + name
	}
	return path
}
