# Everything that people and CI run. All but build need root and Linux: the lab
# is made of network namespaces.
export PATH := $(PATH):/usr/local/go/bin
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X main.version=$(VERSION)

# A version that dpkg can order: v1.2.3 is 1.2.3, four commits later 1.2.3+4.gabcdef.
DEB_VERSION ?= $(shell git describe --tags --match 'v[0-9]*' 2>/dev/null | sed 's/^v//; s/-\([0-9]*\)-g/+\1.g/' | grep . || \
	git log -1 --date=format:%Y%m%d%H%M%S --format=0.0.0~%cd.%h 2>/dev/null || echo 0.0.0)
ARCH    := $(shell $(GO) env GOARCH)

# The tools are a module of their own, whose go.sum pins them.
NFPM := bin/nfpm

.NOTPARALLEL: # the lab measures times

.PHONY: all build deps deb deb-test test unit fuzz fuzz-ci vuln lab bench bench-against demo soak clean $(NFPM)

all: build

build: ## the gateway, as bin/gw
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/gw ./cmd/gw

deb: $(NFPM) ## a Debian package with its SBOM and checksums, as dist/gw_VERSION_ARCH.*
	rm -rf dist/stage && mkdir -p dist/stage
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o dist/stage/gw ./cmd/gw
	CGO_ENABLED=0 GOOS= GOARCH= $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o dist/stage/native ./cmd/gw # runs here, whatever is packed
	dist/stage/native man --dir dist/stage/man
	gzip -9n dist/stage/man/*
	dist/stage/native completion bash >dist/stage/gw.bash
	dist/stage/native completion zsh >dist/stage/_gw
	dist/stage/native completion fish >dist/stage/gw.fish
	GOOS= GOARCH= $(GO) -C tools run ./sbom -binary ../dist/stage/gw -source .. -version '$(DEB_VERSION)' \
		-sbom ../dist/stage/sbom.cdx.json -notices ../dist/stage/THIRD-PARTY
	DEB_VERSION='$(DEB_VERSION)' DEB_ARCH=$(ARCH) $(NFPM) package --config configs/deb/nfpm.yaml --packager deb --target dist/
	cp dist/stage/sbom.cdx.json dist/gw_$(DEB_VERSION)_$(ARCH).cdx.json
	cd dist && sha256sum gw_$(DEB_VERSION)_$(ARCH).* >SHA256SUMS

$(NFPM):
	GOOS= GOARCH= $(GO) -C tools build -o ../$(NFPM) github.com/goreleaser/nfpm/v2/cmd/nfpm

deb-test: ## the package on machines of its own, with systemd: install, upgrade, remove, purge
	$(GO) test -count=1 -timeout 20m -tags deb ./tests/deb

deps: ## what the tests and the demo need and a Debian machine lacks
	./tests/deps.sh

test: deps unit fuzz-ci lab ## all of it, as CI does

unit: ## formatting, vet, and the packages' own tests with the race detector
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo 'run gofmt on:'; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) mod verify
	$(GO) vet ./... && $(GO) -C tools vet ./...
	$(GO) test -race -timeout 10m $$($(GO) list ./... | grep -v /tests/)
	$(GO) test -count=1 -run 'TestSimulation|TestSiege' ./ha # 100,000 seeds each; with the race detector a few
	$(GO) -C tools test ./...
	$(GO) test -count=1 ./gateway/trunk # simulations of speed, which it would make minutes of
	$(GO) test -count=1 -run 'TestRelayAllocates|TestRelayMemory' ./netstack/legs # it changes what is allocated

FUZZTIME ?= 30s
fuzz: ## each fuzz target beyond its seeds, which `make unit` runs: FUZZTIME=1h
	./tests/fuzz.sh each $(FUZZTIME)

fuzz-ci: ## the targets that feed whole sequences to living state, a minute together
	./tests/fuzz.sh listed 60s

vuln: ## known vulnerabilities of the modules, where the database can be reached
	./tests/vuln.sh

lab: ## real kernels' TCP and a real PostgreSQL in network namespaces
	$(GO) test -count=1 -p 1 -timeout 25m ./tests/... # a result that is remembered would be that of another gw

soak: ## what takes minutes: long outages, a path that widens again, 200 kills
	$(GO) test -count=1 -p 1 -timeout 60m -tags soak ./tests/e2e ./gateway/web # the web page wants chromium

bench: build ## ratios against plain wireguard-go, medians of interleaved runs
	$(GO) test -p 1 -timeout 60m -run '^$$' -bench . -benchtime 1x ./tests/bench

bench-against: ## the same machine, this build and an older one, 20 interleaved rounds: OLD=/path/to/gw
	GW_BASELINE=$(abspath $(OLD)) $(GO) test -p 1 -timeout 120m -tags against -run '^$$' -bench Against -benchtime 1x ./tests/bench

demo: ## two sites, a one-way firewall, PostgreSQL both ways, a gateway killed
	./tests/demo.sh

clean:
	rm -rf bin
