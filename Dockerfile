# One image, both programs. The service runs as an unprivileged user; `cvm` needs /dev/kvm and /dev/sev passed in.
#   attest:  run -p 8443:8443 -v attest-data:/var/lib/attest IMAGE serve /var/lib/attest/attest.toml
#   cvm:     run --device /dev/kvm --device /dev/sev --entrypoint cvm IMAGE doctor
FROM docker.io/library/debian:trixie-slim AS build
# Where downloads pass a gateway with its own authority, name its certificates (see launcher/container.sh).
ARG PIP_CERT
ARG DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
RUN python3 -m venv /opt/cvm \
 && /opt/cvm/bin/pip install --no-cache-dir --require-hashes -r requirements.lock \
 && python3 -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY policy policy
COPY ovmf ovmf
COPY launcher launcher
COPY attest attest
RUN /opt/build/bin/hatchling build -t wheel -d /src/dist \
 && /opt/cvm/bin/pip install --no-cache-dir --no-deps /src/dist/*.whl

FROM docker.io/library/debian:trixie-slim
ARG DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      ca-certificates cryptsetup-bin e2fsprogs kmod mmdebstrap python3 qemu-system-x86 zstd \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --home-dir /var/lib/attest --create-home --shell /usr/sbin/nologin attest \
 && chmod 0700 /var/lib/attest
COPY --from=build /opt/cvm /opt/cvm
ENV PATH=/opt/cvm/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin \
    PYTHONUNBUFFERED=1
USER attest
WORKDIR /var/lib/attest
EXPOSE 8443 8445
ENTRYPOINT ["attest"]
CMD ["serve", "/var/lib/attest/attest.toml"]
