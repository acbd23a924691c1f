# MinIO from its Go module. There is no image of MinIO to pull any more: the project's public images are gone
# since 2026, and the last of them lacks the fix of CVE-2025-62506 (service accounts could gain the rights of
# their parent), which this version has. Its repository is archived: SeaweedFS is the default store.
# The module's checksum is verified by Go against MODULE_SUM, those of all it needs by its go.sum.
#
#     docker build -f docker/minio.Dockerfile -t coffer-minio .
ARG GO=golang:1.24.9-bookworm
ARG DEBIAN=debian:12.12-slim

FROM ${GO} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ARG MODULE=github.com/minio/minio
ARG MODULE_VERSION=v0.0.0-20260212201848-7aac2a2c5b7c
ARG MODULE_SUM=h1:/qdoYujxF5MBLDMVLeiYJ/7fBa1HikX39Dvzb9Ji8pA=
ENV CGO_ENABLED=0 GOFLAGS=-modcacherw
RUN go mod download -json "$MODULE@$MODULE_VERSION" >/tmp/module.json \
    && grep -qF "\"Sum\": \"$MODULE_SUM\"" /tmp/module.json \
    && cd "$(sed -n 's/^\t"Dir": "\(.*\)",$/\1/p' /tmp/module.json)" \
    && go build -trimpath -buildvcs=false -ldflags '-s -w' -o /minio .

FROM ${DEBIAN}
COPY --from=build /minio /usr/local/bin/minio
RUN groupadd --gid 9000 minio \
    && useradd --uid 9000 --gid 9000 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin minio \
    && install -d -o minio -g minio -m 700 /data
LABEL org.opencontainers.image.title="MinIO" org.opencontainers.image.licenses="AGPL-3.0-only"
ENV MINIO_UPDATE=off
USER 9000:9000
VOLUME ["/data"]
EXPOSE 9000 9001
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["/bin/bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/9000 && printf 'GET /minio/health/live HTTP/1.0\\r\\n\\r\\n' >&3 && read -r line <&3 && [[ $line == *' 200 '* ]]"]
ENTRYPOINT ["/usr/local/bin/minio"]
CMD ["server", "--quiet", "--console-address", ":9001", "/data"]
