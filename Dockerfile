# The labelling server; it needs no GPU, and torch only for the replies of chat and playground.
FROM python:3.12-slim

RUN useradd --create-home backflip && mkdir /workspace && chown backflip /workspace
WORKDIR /app
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir "$(grep '^torch==' requirements.lock)" \
    && pip install --no-cache-dir -r requirements.lock \
    && pip install --no-cache-dir --no-deps .
USER backflip
VOLUME /workspace
EXPOSE 8000
ENTRYPOINT ["backflip"]
CMD ["serve", "/workspace", "host=0.0.0.0"]
