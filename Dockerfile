# The command line for a CPU, with all bundled models:
#
#   docker build -t hiss .
#   docker run --rm -v "$PWD:/sounds" hiss denoise noisy.wav -o clean.wav
#
# On x86-64 plain torch brings CUDA along, several GB; `--build-arg TORCH_INDEX=ADDRESS` takes it from another index,
# such as the one for CPUs that pytorch.org names.
FROM python:3.12-slim

ARG TORCH_INDEX=""
WORKDIR /opt/hiss
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN python -m pip install --no-cache-dir --constraint constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
COPY src src
RUN python -m pip install --no-cache-dir --constraint constraints.txt '.[all]' && hiss doctor

# What is computed anew at no great cost; any user may write there.
ENV XDG_CACHE_HOME=/tmp/cache
RUN useradd --create-home hiss && mkdir /sounds && chown hiss /sounds
USER hiss
WORKDIR /sounds
ENTRYPOINT ["hiss"]
CMD ["--help"]
