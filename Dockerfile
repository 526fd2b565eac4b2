# The first stage installs and compiles, the second only copies: no installer runs in what is shipped.
FROM python:3.13-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore

# The same path in both stages, so that compiled files and tracebacks name files that are there.
WORKDIR /srv/payment

# Without pip: the image's own one installs from outside.
RUN python -m venv --without-pip /opt/venv

# The packages before the code: a change of the code leaves this layer as it is.
# --only-binary, because there is no compiler here; --no-deps, because the lock is complete.
COPY requirements.lock ./
RUN python -m pip --python /opt/venv/bin/python install \
        --require-hashes --no-deps --only-binary :all: --no-compile -r requirements.lock

COPY main.py ./
COPY app ./app

# Compiled here, because nothing may be written at run time. By hash and unchecked, because
# file times do not survive every builder and the sources do not change any more.
RUN /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib app


FROM python:3.13-slim

# HOME: the user below has no entry in /etc/passwd, and a library may ask for a home directory.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/srv/payment \
    PORT=8004

WORKDIR /srv/payment
COPY --from=build /opt/venv /opt/venv
COPY --from=build /srv/payment/main.py ./
COPY --from=build /srv/payment/app ./app

# Last, because they change with every build.
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="audiobooker-payment" \
      org.opencontainers.image.description="Payments by card and by credits, over HTTP" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# A number, so that Kubernetes can see that it is not root (runAsNonRoot). The files belong to root:
# the service can read them and not change them.
USER 10001:10001

EXPOSE 8004
STOPSIGNAL SIGTERM

# http.client asks this container itself: urllib would go through HTTP_PROXY when that is set.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; probe = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=4); probe.request('GET', '/api/v1/payment/health/live'); sys.exit(probe.getresponse().status != 200)"]

# Exec form: the service is process 1 and gets the SIGTERM itself.
CMD ["python", "main.py"]
