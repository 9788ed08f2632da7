# The one image of Thinstream: controller, agents, volume holders and the command line.
#
#   docker build -t registry.example/thinstream:0.1.0 .
#
# BASE is any Debian trixie with Node 24 and npm. Without a registry, name an image of this machine's: test/image/build.sh makes one with debootstrap.
ARG BASE=docker.io/library/node:24-trixie-slim

FROM ${BASE} AS build
WORKDIR /build
COPY package.json package-lock.json tsconfig.json tsconfig.build.json ./
# Install scripts are not run: the native packages bring what was built for them.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY src ./src
RUN npm run -s build && npm ci --omit=dev --ignore-scripts --no-audit --no-fund \
  && rm -rf node_modules/.package-lock.json

FROM ${BASE}
# libvirt's client, NBD's client, LZ4, and qemu-nbd and qemu-img for disks of stopped machines. Sockets of virt-launcher are reached by path.
RUN apt-get update -q \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends libvirt0 libnbd0 liblz4-1 qemu-utils ca-certificates \
  && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb /var/log/apt /var/log/dpkg.log
COPY --from=build /build/package.json /opt/thinstream/
COPY --from=build /build/node_modules /opt/thinstream/node_modules
COPY --from=build /build/dist /opt/thinstream/dist
COPY --from=build /build/src/cli/thinstream.sh /opt/thinstream/src/cli/
COPY LICENSE /opt/thinstream/
RUN printf '#!/bin/sh\nexec sh /opt/thinstream/src/cli/thinstream.sh "$@"\n' > /usr/local/bin/thinstream \
  && chmod 0755 /usr/local/bin/thinstream

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="thinstream" \
  org.opencontainers.image.description="Incremental-forever, chainless backup of KubeVirt and libvirt virtual machines" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}"

ENV NODE_ENV=production
# Nobody's. Agents that reach into a machine's directories say another user in their pod.
USER 65532:65532
WORKDIR /
ENTRYPOINT ["/usr/local/bin/thinstream"]
CMD ["--help"]
