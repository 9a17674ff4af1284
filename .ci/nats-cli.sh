#!/usr/bin/env bash
# Install the nats command line into GOPATH/bin: the newest, or the last version known to work where "latest" cannot be resolved.
set -euo pipefail
command -v nats >/dev/null && exit 0
command -v go >/dev/null || { echo "nats CLI: no Go here"; exit 1; }
go install github.com/nats-io/natscli/nats@latest 2>/dev/null && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
go mod init nats-cli-build 2>/dev/null
go mod edit -require github.com/nats-io/natscli@v0.4.0
mkdir -p "$(go env GOPATH)/bin"
GOFLAGS=-mod=mod go build -o "$(go env GOPATH)/bin/nats" github.com/nats-io/natscli/nats
