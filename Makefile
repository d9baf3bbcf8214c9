# Every target works in a fresh clone with Go, make and git; see `make help`.

GO ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# RACE is the flag for the race detector, empty without the C compiler that it needs.
RACE = $(shell command -v $$($(GO) env CC | cut -d' ' -f1) >/dev/null 2>&1 && echo -race)

# FILES are the files whose lines `make demo` sends; empty means README.md and LICENSE.
FILES ?=

# BENCH are flags for `make bench`, see build/bench/bench --help.
BENCH ?=

.DEFAULT_GOAL := help
.PHONY: help build demo run test lint fmt bench gobench soak kill storm clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Without cgo the programs need no C library, and an idle nsqlookupd takes 2 MB less.
build: ## compile the programs of cmd/ into build/
	@mkdir -p build/bench
	CGO_ENABLED=0 $(GO) build -o build/ ./cmd/...
	CGO_ENABLED=0 $(GO) build -o build/bench/ ./bench/...

demo: build ## send files through real daemons, restart one midway, balance the books (FILES="a b")
	@build/bench/demo -bin build $(FILES)

run: build ## nsqlookupd and nsqd in the foreground on NSQ's standard ports, data in build/data
	@build/bench/run -bin build -data build/data

test: ## all tests, under the race detector where there is a C compiler to link it
	@[ -n "$(RACE)" ] || echo "no C compiler: without the race detector"
	$(GO) test $(RACE) -timeout 10m ./...

lint: ## gofmt, go vet, staticcheck
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "run make fmt on:" $$unformatted; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

fmt: ## format all Go files
	gofmt -w .

bench: build ## measure nsqd in every way; table, and JSON and picture in build/bench-results (BENCH="--run=pub --n=9")
	@mkdir -p build/bench-results
	@build/bench/bench --json=build/bench-results/bench.json --svg=build/bench-results/bench.svg $(BENCH)

gobench: ## all Go benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

soak: build ## a million messages through a nearly memoryless nsqd, each accounted for
	@build/bench/soak -bin build

kill: ## kill -9 nsqd 200 times at work; nothing that was on disk may be missing
	$(GO) test -count=1 -timeout 20m -run '^TestKill$$' ./nsqd -kills 200

storm: build ## up to 1,000 simulated nsqds register with an nsqlookupd, again after it was killed
	@build/bench/lookupd -bin build

clean: ## remove build/, data of `make run` included
	rm -rf build
