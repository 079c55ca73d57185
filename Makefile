# Everything that people and CI run. All but build need root and Linux: the lab
# is made of network namespaces.
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X main.version=$(VERSION)

.PHONY: all build test unit fuzz lab bench demo soak clean

all: build

build: ## the gateway, as bin/gw
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/gw ./cmd/gw

test: unit lab ## all of it, as CI does

unit: ## formatting, vet, and the packages' own tests with the race detector
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo 'run gofmt on:'; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) test -race -timeout 10m $$($(GO) list ./... | grep -v /tests/)
	$(GO) test -count=1 -run TestSimulation ./ha # 100,000 seeds; with the race detector it runs a few

fuzz: ## each fuzz target beyond its seeds, which `make unit` runs
	./tests/fuzz.sh 30s

lab: ## real kernels' TCP and a real PostgreSQL in network namespaces
	$(GO) test -p 1 -timeout 25m ./tests/...

soak: ## what takes minutes: long outages, a path that widens again, 200 kills
	$(GO) test -p 1 -timeout 60m -tags soak ./tests/e2e

bench: build ## ratios against plain wireguard-go, medians of interleaved runs
	$(GO) test -p 1 -timeout 60m -run '^$$' -bench . -benchtime 1x ./tests/bench

demo: ## two sites, a one-way firewall, PostgreSQL both ways, a gateway killed
	./tests/demo.sh

clean:
	rm -rf bin
