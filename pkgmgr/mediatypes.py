"""Every media type and annotation key that pannier knows, each with the document it comes from.

The only file of the project that spells them out; dialects and transfer name the constants.
"""

from __future__ import annotations

# image-spec v1.1.1, media-types.md
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
OCI_LAYER_TAR = "application/vnd.oci.image.layer.v1.tar"
OCTET_STREAM = "application/octet-stream"

# distribution, docs/spec/manifest-v2-2.md
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"

# Layers that registries need not hold (image-spec v1.1.1, layer.md, "Non-Distributable Layers").
NONDISTRIBUTABLE = (
    "application/vnd.oci.image.layer.nondistributable.",
    "application/vnd.docker.image.rootfs.foreign.",
)

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
# All four, always: registries answer 404 for a stored manifest of a type that is not accepted.
ACCEPT_MANIFEST = ", ".join((OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST))

# CNCF model-spec v0.0.7, docs/spec.md and docs/annotations.md
CNCF_MANIFEST = "application/vnd.cncf.model.manifest.v1+json"
CNCF_CONFIG = "application/vnd.cncf.model.config.v1+json"
CNCF_WEIGHT_RAW = "application/vnd.cncf.model.weight.v1.raw"
CNCF_WEIGHT_CONFIG_RAW = "application/vnd.cncf.model.weight.config.v1.raw"
CNCF_DOC_RAW = "application/vnd.cncf.model.doc.v1.raw"
CNCF_FILEPATH = "org.cncf.model.filepath"
CNCF_PREFIX = "application/vnd.cncf.model."
# Their names before June 2025; artifacts of that time are still in registries.
CNAI_CONFIG = "application/vnd.cnai.model.config.v1+json"
CNAI_FILEPATH = "org.cnai.model.filepath"
CNAI_PREFIX = "application/vnd.cnai.model."

# Ollama, server/images.go
OLLAMA_PREFIX = "application/vnd.ollama.image."

# Docker Model Runner, pkg/distribution/types/config.go
DMR_CONFIG_PREFIX = "application/vnd.docker.ai.model.config."
DMR_CONFIG = "application/vnd.docker.ai.model.config.v0.1+json"
DMR_GGUF = "application/vnd.docker.ai.gguf.v3"
DMR_MMPROJ = "application/vnd.docker.ai.mmproj"
DMR_JINJA = "application/vnd.docker.ai.chat.template.jinja"
DMR_LICENSE = "application/vnd.docker.ai.license"
DMR_FILE = "application/vnd.docker.ai.model.file"

# KitOps, pkg/lib/constants, and Jozu's name of it before
KIT_MANIFEST_PREFIX = "application/vnd.kitops.modelkit.manifest."
KIT_PREFIX = "application/vnd.kitops.modelkit."
JOZU_PREFIX = "application/vnd.jozu.model."

# RamaLama, docs/ramalama-oci.5.md
CONTAINERS_TYPE = "org.containers.type"
CONTAINERS_MODEL = "ai.image.model."

# oras and oras-py, when nobody names a type; omlmd
UNKNOWN_ARTIFACT = "application/vnd.unknown.artifact.v1"
UNKNOWN_CONFIG = "application/vnd.unknown.config.v1+json"
OMLMD_CONFIG = "application/x-config"
OMLMD_MODEL = "application/x-mlmodel"

# image-spec v1.1.1, annotations.md
TITLE = "org.opencontainers.image.title"
CREATED = "org.opencontainers.image.created"
LICENSES = "org.opencontainers.image.licenses"
REF_NAME = "org.opencontainers.image.ref.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"

# Ours: what a layer is for (a value of `pannier.pkgmgr.dialects.base.Role`).
ROLE = "dev.pannier.role"
# Ours: when a name of the local store was last set, RFC 3339.
MODIFIED = "dev.pannier.modified"
# Ours: what a model was built from and with.
MODELFILE_DIGEST = "dev.pannier.modelfile.digest"
VERSION = "dev.pannier.version"
# Ours: the manifest that a converted artifact was made from, and blobs that only it names.
ORIGIN = "application/vnd.dev.pannier.origin.v1"
# Ours: children of an index.
QUANTIZATION = "dev.pannier.quantization"
WEIGHTS_SIZE = "dev.pannier.size"

# cosign, specs/SIGNATURE_SPEC.md
COSIGN_PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
COSIGN_SIGNATURE = "dev.cosignproject.cosign/signature"

# sigstore, protobuf-specs bundle v0.3; in-toto, Statement v1
SIGSTORE_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIGSTORE_CONTENT = "dev.sigstore.bundle.content"
SIGSTORE_PREDICATE = "dev.sigstore.bundle.predicateType"
IN_TOTO = "application/vnd.in-toto+json"

# Bills of material: CycloneDX 1.6, SPDX 3.0.1
CYCLONEDX = "application/vnd.cyclonedx+json"
SPDX = "application/spdx+json"

# Ours: the blocks of a blob, the blob that an index is about, and a bundle's changed blocks.
BLOCK_INDEX = "application/vnd.dev.pannier.blockindex.v1+json"
BLOCK_INDEX_BLOB = "dev.pannier.blob"
DELTA = "application/vnd.dev.pannier.delta.v1+json"
