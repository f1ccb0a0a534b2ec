# syntax=docker/dockerfile:1
FROM rust:1.90-slim-bookworm AS build
# librdkafka is built from source by its own configure; OpenSSL and zlib are the system's.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ libssl-dev make pkg-config zlib1g-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# What .dockerignore lets through.
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin kafka-redis-bridge && cp target/release/kafka-redis-bridge /kafka-redis-bridge

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="kafka-redis-bridge" \
      org.opencontainers.image.description="Moves records from Kafka into Redis: in order, exactly once" \
      org.opencontainers.image.licenses="MIT"
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libssl3 zlib1g && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin bridge
COPY --from=build /kafka-redis-bridge /usr/local/bin/kafka-redis-bridge
# An example to start from: mount your own over it.
COPY config/bridge.toml /etc/kafka-redis-bridge/bridge.toml
USER 10001
EXPOSE 9650
# Drains; give it longer to stop than drain.deadline and 10 s.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["kafka-redis-bridge", "status", "--ready"]
ENTRYPOINT ["kafka-redis-bridge"]
