# Tarn's image: the release binary with the shipped views and Kessel's schemas, for a user who is not root and a file
# system that is read-only. What Tarn keeps is in /var/lib/tarn alone, once TARN_SNAPSHOT__DIRECTORY names it. Every key of
# the configuration (config/tarn.toml) can be set by the environment, as TARN_SECTION__KEY.
#
#   docker build --tag tarn .
#   docker run --rm --publish 127.0.0.1:8080:8080 tarn demo

FROM rust:1.95-bookworm AS build
# librdkafka, OpenSSL, curl and zstd are built in.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends cmake g++ gcc make perl \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /tarn
COPY Cargo.toml Cargo.lock ./
# How jemalloc is built in.
COPY .cargo .cargo
# Cargo wants to see what the manifest names, and builds none of it here.
COPY benches benches
COPY tests/it.rs tests/it.rs
COPY src src
# Crates, and what was built of them, outlive a change of the sources: the first build takes long. A cache is part of no
# layer, so the binary is put beside it. Files have the times of the checkout, which may be older than what is in the
# cache: touched, they are built for certain. Without its line tables the binary is a fraction as large; backtraces still
# name functions.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/tarn/target \
    touch src/lib.rs src/main.rs \
 && CARGO_PROFILE_RELEASE_STRIP=debuginfo cargo build --release --locked --bin tarn \
 && install -D target/release/tarn /built/tarn

FROM debian:bookworm-slim
# Certificates for brokers behind TLS; curl for the health check.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates curl \
 && rm -rf /var/lib/apt/lists/*
# Tarn refuses a data directory that is not its own, or that others may write into. A named volume takes owner and mode
# over from here; a folder of the host's must have them already.
RUN install --directory --mode=0700 --owner=10001 --group=10001 /var/lib/tarn
COPY --from=build /built/tarn /usr/local/bin/tarn
# Where the configuration finds these by its defaults.
WORKDIR /usr/share/tarn
COPY LICENSE LICENSE
COPY queries queries
COPY config/kessel-schema config/kessel-schema
COPY config/tarn.toml /etc/tarn/tarn.toml
# The loopback address of a container is reached by nobody; which addresses of the host are, `--publish` says. The
# environment wins over a file: whoever mounts one with other addresses sets these as well.
ENV TARN_HTTP__LISTEN=0.0.0.0:8080
ENV TARN_HTTP__ADMIN_LISTEN=0.0.0.0:8081
# The OpenSSL that is built in would look where Debian has no certificates.
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 10001:10001
# An image whose parts do not fit together is not made: libraries, configuration, schemas, views and the tests beside them.
RUN ["tarn", "check", "--config", "/etc/tarn/tarn.toml"]
VOLUME ["/var/lib/tarn"]
EXPOSE 8080 8081
# Whether the process answers, on the operators' listener: readers cannot take its connections. Nothing answers before the
# last snapshot is loaded. /readyz is for who balances load: it is 503 for as long as a topic is missing, and a restart
# brings none.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5m --retries=3 \
    CMD ["curl", "--fail", "--silent", "--output", "/dev/null", "http://127.0.0.1:8081/livez"]
# An announced stop; README says what comes of it.
STOPSIGNAL SIGTERM
ENTRYPOINT ["tarn"]
CMD ["serve", "--config", "/etc/tarn/tarn.toml"]
