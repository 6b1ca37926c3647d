"""Makes keys.json, batches.json and saved.json: the second implementation of WIRE.md, sections 1, 2, 5 and 6.

Written from WIRE.md with Python's `cryptography` and the standard library, not from the Rust.

    python3 -m venv /tmp/vectors && /tmp/vectors/bin/pip install 'cryptography>=50'
    /tmp/vectors/bin/python proto/vectors/generate.py            # writes the files anew
    /tmp/vectors/bin/python proto/vectors/generate.py --check    # fails if the files are not what it makes

Every input is expanded from a name, so that each run makes the same files. All byte strings are in hex.
"""

import hashlib
import hmac
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mlkem
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import mlkem768

X25519, P256, MLKEM = 0x0001, 0x0002, 0x0100
SOURCE, RECEIVER = 0, 1
TO_RECEIVER, TO_SOURCE = 0, 1
MAX_BODY = 1_114_112

# Lane, direction, epoch: the corners of each, and neighbours that a swapped field would confuse.
LANES = [
    (0, TO_RECEIVER, 0),
    (0, TO_SOURCE, 0),
    (0, TO_RECEIVER, 1),
    (1, TO_RECEIVER, 0),
    (255, TO_SOURCE, 0x01020304),
    (3, TO_RECEIVER, 0xFFFFFFFF),
]


def main() -> int:
    cases = [key_case(*case) for case in (
        ("x25519", X25519, FULL),
        ("p256", P256, FULL),
        ("x25519 with ml-kem", X25519 | MLKEM, FULL),
        ("p256 with ml-kem", P256 | MLKEM, FULL),
        ("bare context", X25519 | MLKEM, BARE),
    )]
    files = {
        "keys.json": {"about": "Made by generate.py from WIRE.md, sections 2 and 5.", "cases": cases},
        "batches.json": {"about": "Made by generate.py from WIRE.md, section 1.", "lanes": batches(cases)},
        "saved.json": {"about": "Made by generate.py from WIRE.md, section 6.", "cases": [saved("saved"), saved("again")]},
    }
    stale = []
    for name, content in files.items():
        path = Path(__file__).parent / name
        text = json.dumps(content, indent=1, ensure_ascii=True) + "\n"
        if "--check" not in sys.argv[1:]:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(name)
    for name in stale:
        print(f"proto/vectors/{name} is not what generate.py makes", file=sys.stderr)
    return 1 if stale else 0


# The transcript -----------------------------------------------------------------------------------------------------

FULL = {
    "source_hello": "source hello",
    "receiver_hello": "receiver hello",
    "offer": "offer",
    "choice": "choice",
    "admission": "admission",
    "verdict": "verdict",
    "source_certificate": "source certificate",
    "receiver_certificate": "receiver certificate",
    "tls_client": SOURCE,
    "peer_name": b"host-b.example.org",
    "guest_name": "gäst-1".encode(),
    "ram_blocks": [
        (b"pc.ram", 4 << 30, 4096),
        (b"pc.bios", 256 << 10, 4096),
        (b"0000:00:02.0/vga.vram", 16 << 20, 4096),
        (b"hugepages", 1 << 40, 1 << 30),
    ],
    # 0x7f01 is no suite of version 1: unknown ones stay in the transcript.
    "offered": [0x7F01, 0x0101, 0x0102, 0x0001, 0x0002],
}

# Whose bytes the transcript takes as they are, in its order.
AS_SENT = ("source_hello", "receiver_hello", "offer", "choice", "admission", "verdict")
CERTIFICATES = ("source_certificate", "receiver_certificate")

# Empty wherever the transcript allows it.
BARE = {
    "source_hello": None,
    "receiver_hello": None,
    "offer": None,
    "choice": None,
    "admission": None,
    "verdict": None,
    "source_certificate": None,
    "receiver_certificate": None,
    "tls_client": RECEIVER,
    "peer_name": b"",
    "guest_name": b"",
    "ram_blocks": [],
    "offered": [0x0101],
}


def context_of(name: str, template: dict) -> dict:
    context = dict(template)
    for index, key in enumerate(AS_SENT + CERTIFICATES):
        seed = template[key]
        # Different lengths, so that swapped fields show.
        context[key] = b"" if seed is None else expand(f"{name}: {seed}", 40 + 61 * index)
    context["guest_uuid"] = expand(f"{name}: uuid", 16)
    return context


def transcript_of(context: dict, suite: int, shares: list[bytes]) -> bytes:
    return b"".join([
        label(b"sealift v1 transcript"),
        *(field(context[key]) for key in AS_SENT + CERTIFICATES),
        field(bytes([context["tls_client"]])),
        field(context["peer_name"]),
        field(context["guest_uuid"]),
        field(context["guest_name"]),
        many([be(length, 8) + be(page, 8) + name for name, length, page in context["ram_blocks"]]),
        many([be(number, 2) for number in context["offered"]]),
        field(be(suite, 2)),
        *(field(share) for share in shares),
    ])


def field(data: bytes) -> bytes:
    return be(len(data), 4) + data


def many(entries: list[bytes]) -> bytes:
    return be(len(entries), 4) + b"".join(map(field, entries))


# The exchange and the key schedule ----------------------------------------------------------------------------------


def key_case(name: str, suite: int, template: dict) -> dict:
    context = context_of(name, template)
    source_secret, receiver_secret = expand(f"{name}: source", 32), expand(f"{name}: receiver", 32)
    source_share, receiver_share, ecdh = agree(suite & 0xFF, source_secret, receiver_secret)
    seed = m = key = ciphertext = shared = rejected = b""
    if suite & MLKEM:
        seed, m = expand(f"{name}: d and z", 64), expand(f"{name}: m", 32)
        decapsulation = mlkem.MLKEM768PrivateKey.from_seed_bytes(seed)
        key = decapsulation.public_key().public_bytes_raw()
        ciphertext, shared = mlkem768.encapsulate(key, m)
        assert decapsulation.decapsulate(ciphertext) == shared
        # The last bit of the ciphertext altered: implicit rejection, another key and no error.
        rejected = decapsulation.decapsulate(ciphertext[:-1] + bytes([ciphertext[-1] ^ 1]))
        assert rejected == hashlib.shake_256(seed[32:] + ciphertext[:-1] + bytes([ciphertext[-1] ^ 1])).digest(32)
    transcript = transcript_of(context, suite, [source_share, receiver_share, key, ciphertext])
    exporter, session = expand(f"{name}: exporter", 32), expand(f"{name}: session", 16)
    prk = hmac.digest(exporter, ecdh + shared, "sha256")
    hashed = hashlib.sha256(transcript).digest()

    def derive(purpose: bytes, tail: bytes, length: int) -> bytes:
        info = label(purpose) + session + hashed + tail
        return HKDFExpand(hashes.SHA256(), length, info).derive(prk)

    lanes = []
    for lane, direction, epoch in LANES:
        okm = derive(b"sealift v1 lane", be(lane, 2) + be(direction, 1) + be(epoch, 4), 44)
        lanes.append({
            "lane": lane, "direction": direction, "epoch": epoch, "key": okm[:32].hex(), "iv": okm[32:].hex(),
        })
    resumption = derive(b"sealift v1 resumption", b"", 32)
    return {
        "name": name,
        "suite": suite,
        "source_secret": source_secret.hex(),
        "receiver_secret": receiver_secret.hex(),
        "mlkem_seed": seed.hex(),
        "mlkem_m": m.hex(),
        "exporter": exporter.hex(),
        "session": session.hex(),
        "context": readable(context),
        "source_share": source_share.hex(),
        "receiver_share": receiver_share.hex(),
        "encapsulation_key": key.hex(),
        "ciphertext": ciphertext.hex(),
        "ecdh": ecdh.hex(),
        "mlkem": shared.hex(),
        "mlkem_rejected": rejected.hex(),
        "transcript": transcript.hex(),
        "transcript_hash": hashed.hex(),
        "prk": prk.hex(),
        "source_confirmation": derive(b"sealift v1 confirm", be(SOURCE, 1), 32).hex(),
        "receiver_confirmation": derive(b"sealift v1 confirm", be(RECEIVER, 1), 32).hex(),
        "resumption": resumption.hex(),
        "return": returned(
            name, suite, context, hashed, [source_share, receiver_share, key, ciphertext], ecdh + shared + resumption
        ),
        "lane_hello_key": (hello_key := derive(b"sealift v1 lane hello", b"", 32)).hex(),
        "lane_hellos": [
            lane_hello(hello_key, direction, lane, session, expand(f"{name}: token {lane}", 32))
            for lane, direction, _ in LANES
        ],
        "lanes": lanes,
    }


def returned(name: str, suite: int, context: dict, first: bytes, shares: list[bytes], agreed: bytes) -> dict:
    """The session taken up again, with the shares of the first time: what is new is the connection and what was said on it."""
    hellos = [expand(f"{name}: source hello again", 50), expand(f"{name}: receiver hello again", 70)]
    exporter = expand(f"{name}: exporter again", 32)
    transcript = b"".join([
        label(b"sealift v1 return"),
        field(first),
        *map(field, hellos),
        *(field(context[key]) for key in CERTIFICATES),
        field(bytes([context["tls_client"]])),
        field(be(suite, 2)),
        *map(field, shares),
    ])
    return {
        "source_hello": hellos[0].hex(),
        "receiver_hello": hellos[1].hex(),
        "exporter": exporter.hex(),
        "transcript": transcript.hex(),
        "prk": hmac.digest(exporter, agreed, "sha256").hex(),
    }


def lane_hello(key: bytes, direction: int, lane: int, session: bytes, token: bytes) -> dict:
    head = b"sealiftL" + be(1, 1) + be(direction, 1) + be(lane, 2) + session + token
    assert len(head) == 60
    sent = head + hmac.digest(key, head, "sha256")
    return {"lane": lane, "direction": direction, "token": token.hex(), "sent": sent.hex()}


def agree(group: int, source: bytes, receiver: bytes) -> tuple[bytes, bytes, bytes]:
    if group == X25519:
        a, b = X25519PrivateKey.from_private_bytes(source), X25519PrivateKey.from_private_bytes(receiver)
        shares = [key.public_key().public_bytes_raw() for key in (a, b)]
        shared = [
            a.exchange(X25519PublicKey.from_public_bytes(shares[1])),
            b.exchange(X25519PublicKey.from_public_bytes(shares[0])),
        ]
    else:
        curve = ec.SECP256R1()
        a, b = (ec.derive_private_key(int.from_bytes(secret), curve) for secret in (source, receiver))
        shares = [
            key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) for key in (a, b)
        ]
        shared = [
            a.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(curve, shares[1])),
            b.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(curve, shares[0])),
        ]
    assert shared[0] == shared[1]
    return shares[0], shares[1], shared[0]


# Sealed batches -----------------------------------------------------------------------------------------------------


def batches(cases: list[dict]) -> list[dict]:
    """Several lanes of the first and the third case; sequence numbers beyond a byte show the nonce's alignment."""
    plan = [(0, (0, 1, 16, 33, 4096, 4097), 0), (4, (5, 0), 0x01020304), (5, (65_536, MAX_BODY), (1 << 31) - 2)]
    lanes = []
    for case in (0, 2):
        for index, lengths, first in plan:
            lane = cases[case]["lanes"][index]
            lanes.append({
                "case": cases[case]["name"],
                **lane,
                "first_sequence": first,
                # Batch numbers come from all lanes, so they have nothing to do with the sequence.
                "batches": [
                    seal(lane, first + i, (7 + 11 * i) << 8 * index, length) for i, length in enumerate(lengths)
                ],
            })
    return lanes


def seal(lane: dict, sequence: int, batch: int, length: int) -> dict:
    body = body_of(length)
    header = be(1, 1) + be(0, 1) + be(lane["lane"], 2) + be(lane["epoch"], 4)
    header += be(sequence, 8) + be(batch, 8) + be(length, 4)
    assert len(header) == 28
    nonce = int.from_bytes(bytes.fromhex(lane["iv"])) ^ sequence
    sealed = header + AESGCM(bytes.fromhex(lane["key"])).encrypt(be(nonce, 12), body, header)
    out = {"sequence": sequence, "batch": batch, "length": length, "sha256": hashlib.sha256(sealed).hexdigest()}
    # Of the long ones the digest is enough: sealing the same body must give it, and opening that must give the body.
    return {**out, "sealed": sealed.hex()} if length <= 4097 else out


def body_of(length: int) -> bytes:
    """Byte i is i * 7 + 3 modulo 251: no period of a power of two."""
    period = bytes((i * 7 + 3) % 251 for i in range(251))
    return (period * (length // 251 + 1))[:length]


# Saved guests -------------------------------------------------------------------------------------------------------


def saved(name: str) -> dict:
    """A file's keys, its first batch of the guest and its end. The header stands for any: its keys take it as bytes."""
    secret, recipient = expand(f"{name}: ephemeral", 32), expand(f"{name}: recipient", 32)
    share, key, ecdh = agree(P256, secret, recipient)
    header = expand(f"{name}: header", 300)
    salt, ident = expand(f"{name}: salt", 32), expand(f"{name}: id", 16)
    prk = hmac.digest(salt, ecdh, "sha256")
    hashed = hashlib.sha256(label(b"sealift v1 saved") + field(header) + field(share) + field(key)).digest()

    def lane(number: int, epoch: int) -> dict:
        info = label(b"sealift v1 lane") + ident + hashed + be(number, 2) + be(TO_RECEIVER, 1) + be(epoch, 4)
        okm = HKDFExpand(hashes.SHA256(), 44, info).derive(prk)
        return {"lane": number, "epoch": epoch, "key": okm[:32].hex(), "iv": okm[32:].hex()}

    end, guest = lane(1, 0), lane(0, 1)
    return {
        "name": name,
        "ephemeral_secret": secret.hex(),
        "recipient_secret": recipient.hex(),
        "salt": salt.hex(),
        "id": ident.hex(),
        "header": header.hex(),
        "share": share.hex(),
        "recipient_key": key.hex(),
        "ecdh": ecdh.hex(),
        "prk": prk.hex(),
        "end": {**end, "batch": seal(end, 0, 0, 49)},
        "guest": {**guest, "batch": seal(guest, 0, 0, 33)},
    }


# Small things -------------------------------------------------------------------------------------------------------


def label(text: bytes) -> bytes:
    return be(len(text), 1) + text


def be(number: int, width: int) -> bytes:
    return number.to_bytes(width)


def expand(name: str, length: int) -> bytes:
    return hashlib.shake_256(f"sealift vectors: {name}".encode()).digest(length)


def readable(context: dict) -> dict:
    out = {key: value.hex() if isinstance(value, bytes) else value for key, value in context.items()}
    out["ram_blocks"] = [
        {"name": name.hex(), "length": length, "page_size": page} for name, length, page in context["ram_blocks"]
    ]
    return out


if __name__ == "__main__":
    sys.exit(main())
