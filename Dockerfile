# One image for every role: `docker run mutirao worker …`, `docker run mutirao sink …`.
# Plain instructions only, so that the classic builder works as well as BuildKit.

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends libzmq3-dev pkg-config \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src

# The dependencies, in a layer of their own: it is built again only when a manifest changes.
# Cargo wants a source for every target that a manifest names; empty ones do.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY patterns/Cargo.toml patterns/
COPY apps/Cargo.toml apps/
RUN mkdir -p patterns/src apps/src apps/benches \
 && touch patterns/src/lib.rs apps/benches/suite.rs \
 && echo 'fn main() {}' > apps/src/main.rs \
 && cargo build --release --locked --package mutirao-apps --bin mutirao

# The sources. A copied file keeps its old time; touched, it is newer than the empty one's build.
COPY patterns patterns
COPY apps apps
RUN touch patterns/src/lib.rs apps/src/main.rs \
 && cargo build --release --locked --package mutirao-apps --bin mutirao \
 && strip --strip-all -o /mutirao target/release/mutirao

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends libzmq5 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/apt /var/log/dpkg.log
COPY --from=build /mutirao /usr/local/bin/mutirao
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["mutirao"]
CMD ["--help"]
