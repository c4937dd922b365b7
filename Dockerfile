# The program midms and its app, without a GPU or with one:
#
#   docker build --tag midms .
#   docker build --tag midms --build-arg TORCH=cu128 .
#   docker run --rm --volume "$PWD:/data" midms translate --condition sample:1 --exemplar photo.jpg --out out.png
#   docker run --rm --publish 127.0.0.1:7860:7860 midms app --host 0.0.0.0 --allowed-host localhost
#
# A GPU needs the NVIDIA Container Toolkit and `docker run --gpus all`.
FROM python:3.12-slim

# The build of PyTorch: cpu (some 200 MB), or the CUDA version of an index of download.pytorch.org, such as cu128.
ARG TORCH=cpu
RUN pip install --no-cache-dir "torch>=2.10" "torchvision>=0.25" \
    --index-url "https://download.pytorch.org/whl/${TORCH}"

WORKDIR /opt/midms
COPY pyproject.toml setup.py README.md LICENSE ./
COPY midms midms
# hadolint ignore=DL3013 # the package beside this file has no version to choose
RUN pip install --no-cache-dir ".[app]" \
    && useradd --create-home --uid 1000 midms

USER 1000
WORKDIR /data
ENTRYPOINT ["midms"]
CMD ["--help"]
