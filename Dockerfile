# A static binary on nothing: the only base image is the compiler's.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /peerpost ./cmd/peerpost && mkdir /data

FROM scratch
COPY --from=build /peerpost /peerpost
COPY --from=build --chown=65532:65532 /data /data
USER 65532:65532
ENV PEERPOST_HOME=/data
VOLUME /data
EXPOSE 7678/tcp 7678/udp
ENTRYPOINT ["/peerpost"]
CMD ["up"]
