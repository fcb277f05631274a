# Targets for people; .ci/run calls `make test race lint`.
GO      ?= go
BIN     ?= bin/peerpost
FUZZTIME ?= 20s
export CGO_ENABLED ?= 0

.PHONY: help build run test race soak lint vet fuzz bench demo crash clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

build: ## build the one static binary
	$(GO) build -trimpath -o $(BIN) ./cmd/peerpost

run: build ## run a node; the first start makes the account and prints what to enter in the mail client
	$(BIN) up $(ARGS)

test: ## all tests, about two minutes
	$(GO) test ./...

# The scenarios of many virtual days take half an hour under the race detector
# and run no code that the shorter ones do not.
LONG := TestUpkeep|TestExpiry|TestOldRecord|TestSleepingStranger|TestOfflineToOffline

race: ## the tests under the race detector, but for the scenarios of many days
	CGO_ENABLED=1 .ci/race $(GO) test -race -timeout 20m -skip '$(LONG)' ./...

soak: ## upkeep with 60 whole nodes over three virtual days, with and without, and a DHT of 200
	$(GO) test -count 1 -timeout 60m -run TestUpkeep ./node/nodetest -soak
	$(GO) test -count 1 -timeout 20m -run TestLargeNetwork ./dht -soak

vet:
	$(GO) vet ./...

lint: vet ## gofmt, vet and staticcheck
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "not formatted: $$out"; exit 1; fi
	$(GO) tool staticcheck ./...

fuzz: ## every fuzz target for FUZZTIME each
	@set -e; $(GO) list ./... | while read -r p; do \
	  for f in $$($(GO) test -list '^Fuzz' "$$p" | grep '^Fuzz' || true); do \
	    echo "== $$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "$$p"; done; done

bench: ## the benchmarks, reported and not asserted
	$(GO) test -run '^$$' -bench . -benchmem ./...

demo: build ## ten nodes on loopback, a mail to a sleeping recipient, told step by step
	$(GO) run ./cmd/peerpost-demo

crash: build ## kill -9 of sender, holder and recipient under load, ten rounds
	$(GO) test -count 1 -run TestKill -v ./cmd/peerpost -args -kill-rounds 10

clean: ## remove what was built
	rm -rf bin
