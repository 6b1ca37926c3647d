#!/usr/bin/env python3
"""Test vectors for the body of a batch: a second implementation of WIRE.md section 3, written from that page alone.

    records.py            writes records.json
    records.py --check    makes them again, compares, and reads every body back

Only the standard library is needed. BLAKE3 comes from PyPI's `blake3`; without it those digests are kept from the
file and reported as not checked, and the file is not written.

A page's content is named by a seed: byte i is (seed + 7 i + 13 (i >> 8)) mod 256. In `body`, a list of pieces to
join, an integer stands for the page of that seed and a string is hex.
"""

import hashlib
import json
import pathlib
import sys

try:
    from blake3 import blake3
except ImportError:
    blake3 = None

FILE = pathlib.Path(__file__).with_name("records.json")
PAGE = 4096  # of the vector at hand
CONTENT, ZEROS, RECORDS = 1 << 20, 1 << 18, 1 << 14
LIMIT = 1_114_112


def page(seed):
    return bytes((seed + 7 * i + 13 * (i >> 8)) % 256 for i in range(PAGE))


def apart(content):
    """The lowest byte of every word of 8 bytes, then the next of every word, and so on."""
    return b"".join(content[i::8] for i in range(8))


def together(planes):
    words = len(planes) // 8
    return bytes(planes[i % 8 * words + i // 8] for i in range(len(planes)))


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


# ---- writing ----


def patch_bytes(runs):
    """runs: [offset, hex]"""
    out, told = b"", 0
    for offset, changed in runs:
        changed = bytes.fromhex(changed)
        out += varint(offset - told) + varint(len(changed)) + changed
        told = offset + len(changed)
    return out


def zstd_stored(raw):
    """RFC 8878: a frame of one segment whose blocks are stored as they are."""
    frame = bytes.fromhex("28b52ffd") + b"\xa0" + len(raw).to_bytes(4, "little")
    pieces = [raw[i:i + (1 << 17)] for i in range(0, len(raw), 1 << 17)]
    for index, piece in enumerate(pieces):
        last = index == len(pieces) - 1
        frame += (len(piece) << 3 | last).to_bytes(3, "little") + piece
    return frame


def zstd_undo(frame):
    """The other way, for frames as `zstd_stored` makes them."""
    assert frame[:5] == bytes.fromhex("28b52ffda0")
    raw, at, last = b"", 9, 0
    while not last:
        head = int.from_bytes(frame[at:at + 3], "little")
        last, length = head & 1, head >> 3
        assert head >> 1 & 3 == 0
        raw += frame[at + 3:at + 3 + length]
        at += 3 + length
    assert at == len(frame) and len(raw) == int.from_bytes(frame[5:9], "little")
    return raw


def raw_len(group):
    return len(join(tidy(write(group["records"]))))


def write(records):
    """Pieces of the body behind the digest."""
    pieces, last = [], None
    for r in records:
        kind = r["record"]
        if kind == "opaque":
            data = bytes.fromhex(r["bytes"])
            pieces.append(b"\x50" + varint(r["channel"]) + varint(len(data)) + data)
            continue
        if kind == "barrier":
            pieces.append(b"\x60")
            continue
        if kind == "group":
            data = zstd_stored(join(tidy(write(r["records"]))))
            head = bytes([0x70, 1]) + b"".join(map(varint, (r["slot"], r["window"], raw_len(r), len(data))))
            pieces.append(head + data)
            last = None
            continue
        block, number = r["page"]
        tag = {"zero": 0x10, "literal": 0x20, "same-as": 0x30, "delta": 0x40, "planes": 0x80}[kind]
        if last and last[0] == block and number == last[1] + 1:
            address = bytes([tag])
        elif last and last[0] == block and number > last[1]:
            address = bytes([tag | 1]) + varint(number - last[1] - 1)
        else:
            address = bytes([tag | 2]) + varint(block) + varint(number)
        last = (block, number)
        if kind == "zero":
            pieces.append(address + varint(r["run"] - 1))
            last = (block, number + r["run"] - 1)
        elif kind == "literal":
            pieces += [address, r["seed"]]
        elif kind == "planes":
            pieces.append(address + apart(page(r["seed"])))
        else:
            origin = b"".join(map(varint, (*r["origin"], r["age"])))
            pieces.append(address + origin)
            if kind == "delta":
                patch = patch_bytes(r["patch"])
                pieces.append(varint(len(patch)) + patch)
    return pieces


def digest(algorithm, pages):
    """pages: (block, first, run) for zeros, (block, page, bytes) for others."""
    new = {1: hashlib.sha256, 2: blake3}[algorithm]
    contents, addresses = new(), new()
    for block, first, what in pages:
        addresses.update(block.to_bytes(2, "big"))
        if isinstance(what, int):
            addresses.update(b"\x00" + first.to_bytes(8, "big") + what.to_bytes(8, "big"))
        else:
            addresses.update(b"\x01" + first.to_bytes(8, "big"))
            contents.update(what)
    return new(contents.digest() + addresses.digest()).digest()


def resolve(records, earlier):
    """The pages that a vector's records put into the guest, in order, those of its groups in their place."""
    now = {}
    flat = [inner for r in records for inner in r.get("records", [r])]
    for r in flat:
        kind = r["record"]
        if kind == "zero":
            yield (*r["page"], r["run"])
        elif kind in ("literal", "planes", "same-as", "delta"):
            if kind in ("literal", "planes"):
                content = page(r["seed"])
            else:
                origin = tuple(r["origin"])
                content = now[origin] if r["age"] == 0 else page(earlier[f"{r['age']}/{origin[0]}/{origin[1]}"])
            for offset, changed in r.get("patch", []):
                changed = bytes.fromhex(changed)
                content = content[:offset] + changed + content[offset + len(changed):]
            now[tuple(r["page"])] = content
            yield (*r["page"], content)


# ---- reading ----


class Refused(Exception):
    def __init__(self, offset, reason):
        super().__init__(f"{reason} at {offset}")
        self.offset, self.reason = offset, reason


class Bytes:
    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def take(self, n):
        if self.at + n > len(self.data):
            raise Refused(self.at, "Truncated")
        self.at += n
        return self.data[self.at - n:self.at]

    def varint(self):
        start, value = self.at, 0
        for i in range(10):
            if self.at + i >= len(self.data):
                raise Refused(start, "Truncated")
            byte = self.data[self.at + i]
            value |= (byte & 0x7F) << (7 * i)
            if value >= 1 << 64 or (i == 9 and byte & 0x80):
                raise Refused(start, "HugeVarint")
            if not byte & 0x80:
                if byte == 0 and i:
                    raise Refused(start, "LongVarint")
                self.at += i + 1
                return value
        raise AssertionError("unreachable")


def read_patch(b, end):
    runs, told = [], 0
    while b.at < end:
        start = b.at
        gap = b.varint()
        if gap == 0 and told:
            raise Refused(start, "TouchingRuns")
        at = b.at
        changed = b.varint()
        if changed == 0:
            raise Refused(at, "EmptyRun")
        if told + gap + changed > PAGE:
            raise Refused(start, "RunBeyondPage")
        runs.append([told + gap, b.take(changed).hex()])
        told += gap + changed
    if not runs:
        raise Refused(b.at, "EmptyPatch")
    return runs


def read(body, blocks, batch, agreed, left=None):
    """`left`: of a group, what its batch may still put."""
    b = Bytes(body)
    group = left is not None
    if not group:
        if len(body) > LIMIT:
            raise Refused(0, "BodyTooLong")
        algorithm = b.take(1)[0]
        if algorithm not in (1, 2):
            raise Refused(0, "UnknownDigest")
        if algorithm != agreed["digest"]:
            raise Refused(0, "DigestNotAgreed")
        b.take(32)
        left = {"TooMuchContent": CONTENT, "TooManyZeros": ZEROS, "TooMuchRaw": LIMIT,
                "TooManyRecords": RECORDS, "SecondWindow": 1}
    records, last = [], None

    def pay(reason, amount, at):
        if amount > left[reason]:
            raise Refused(at, reason)
        left[reason] -= amount

    def anywhere():
        at = b.at
        block = b.varint()
        if block >= len(blocks):
            raise Refused(at, "UnknownBlock")
        at = b.at
        number = b.varint()
        if number >= blocks[block]:
            raise Refused(at, "PageBeyondBlock")
        return [block, number]

    while b.at < len(body):
        start = b.at
        tag = b.take(1)[0]
        pay("TooManyRecords", 1, start)
        kind, mode = tag >> 4, tag & 15
        if not 1 <= kind <= 8:
            raise Refused(start, "UnknownRecord")
        if 5 <= kind <= 7:
            if mode:
                raise Refused(start, "StrayAddressing")
            if kind == 6:
                records.append({"record": "barrier"})
                continue
            if kind == 5:
                at = b.at
                channel = b.varint()
                if channel > 0xFFFF:
                    raise Refused(at, "UnknownChannel")
                at = b.at
                n = b.varint()
                if n == 0:
                    raise Refused(at, "EmptyOpaque")
                records.append({"record": "opaque", "channel": channel, "bytes": b.take(n).hex()})
                continue
            if group:
                raise Refused(start, "NestedGroup")
            at = b.at
            codec = b.take(1)[0]
            if codec != 1:
                raise Refused(at, "UnknownCodec")
            if codec not in agreed["codecs"]:
                raise Refused(at, "CodecNotAgreed")
            slot_at = b.at
            slot = b.varint()
            window_at = b.at
            window = b.varint()
            if window > agreed["windows"]:
                raise Refused(window_at, "WindowNotAgreed")
            if (slot == 0) != (window == 0):
                raise Refused(slot_at, "StraySlot")
            if window:
                pay("SecondWindow", 1, window_at)
            at = b.at
            raw = b.varint()
            if not 1 <= raw <= LIMIT:
                raise Refused(at, "RawLength")
            pay("TooMuchRaw", raw, at)
            at = b.at
            n = b.varint()
            if n == 0:
                raise Refused(at, "EmptyGroup")
            data = b.take(n)
            r = {"record": "group", "slot": slot, "window": window, "raw_len": raw}
            if data[:4] == bytes.fromhex("28b52ffd"):
                inflated = zstd_undo(data)
                if len(inflated) != raw:
                    raise Refused(0, "OtherRawLength")
                r["records"] = read(inflated, blocks, batch, agreed, left)
            records.append(r)
            last = None
            continue
        if mode > 2:
            raise Refused(start, "UnknownAddressing")
        if mode == 2:
            where = anywhere()
            if last and where[0] == last[0] and where[1] > last[1]:
                raise Refused(start, "LongAddress")
        else:
            if not last:
                raise Refused(start, "NoPageBefore")
            passed, at = 0, start
            if mode == 1:
                at = b.at
                passed = b.varint()
                if passed == 0:
                    raise Refused(at, "NothingPassedOver")
            where = [last[0], last[1] + 1 + passed]
            if where[1] >= 1 << 64:
                raise Refused(at, "AddressOverflow")
            if where[1] >= blocks[where[0]]:
                raise Refused(start, "PageBeyondBlock")
        last = where
        if kind == 1:
            at = b.at
            run = b.varint() + 1
            if where[1] + run > blocks[where[0]]:
                raise Refused(at, "RunBeyondBlock")
            last = [where[0], where[1] + run - 1]
            pay("TooManyZeros", run, at)
            records.append({"record": "zero", "page": where, "run": run})
            continue
        pay("TooMuchContent", PAGE, start)
        if kind == 2:
            content = b.take(PAGE)
            if content != page(content[0]):
                raise AssertionError("a vector's pages have seeds")
            records.append({"record": "literal", "page": where, "seed": content[0]})
        elif kind == 8:
            content = together(b.take(PAGE))
            if content != page(content[0]):
                raise AssertionError("a vector's pages have seeds")
            records.append({"record": "planes", "page": where, "seed": content[0]})
        else:
            origin = anywhere()
            at = b.at
            age = b.varint()
            if age > batch:
                raise Refused(at, "BeforeFirstBatch")
            if age == 0 and origin == where:
                raise Refused(at, "OwnPage")
            r = {"record": "same-as", "page": where, "origin": origin, "age": age}
            if kind == 4:
                at = b.at
                n = b.varint()
                if n >= PAGE:
                    raise Refused(at, "PatchTooLong")
                at = b.at
                b.take(n)
                inner = Bytes(body[:at + n], at)
                r |= {"record": "delta", "patch": read_patch(inner, at + n)}
            records.append(r)
    return records


# ---- the vectors ----

# The last one ends where page numbers of 64 KiB do.
BLOCKS = [1 << 20, 4, 1 << 48]


def accepted():
    every = [
        {"record": "zero", "page": [0, 0], "run": 1},
        {"record": "zero", "page": [0, 1], "run": 300},
        {"record": "literal", "page": [0, 301], "seed": 17},
        {"record": "barrier"},
        {"record": "literal", "page": [0, 302], "seed": 18},
        {"record": "opaque", "channel": 0, "bytes": "51454d5566696c65"},
        {"record": "planes", "page": [0, 303], "seed": 19},
        {"record": "same-as", "page": [0, 500], "origin": [0, 301], "age": 0},
        {"record": "delta", "page": [0, 501], "origin": [0, 302], "age": 0, "patch": [[0, "ff"], [9, "0102"], [4095, "aa"]]},
        {"record": "same-as", "page": [0, 3], "origin": [1, 3], "age": 2},
        {"record": "delta", "page": [1, 3], "origin": [1, 3], "age": 700, "patch": [[200, "00" * 130]]},
        {"record": "zero", "page": [2, (1 << 48) - 2], "run": 2},
        {"record": "opaque", "channel": 65535, "bytes": "00" * 128},
        {"record": "barrier"},
    ]
    earlier = {"2/1/3": 99, "700/1/3": 100}
    grouped = [
        {"record": "zero", "page": [0, 5], "run": 1},
        {"record": "literal", "page": [1, 2], "seed": 5},
        {"record": "group", "slot": 0, "window": 0, "records": [
            {"record": "literal", "page": [0, 6], "seed": 7},
            {"record": "opaque", "channel": 1, "bytes": "0102"},
            {"record": "zero", "page": [0, 7], "run": 3},
            {"record": "same-as", "page": [0, 20], "origin": [1, 2], "age": 0},
        ]},
        {"record": "delta", "page": [0, 6], "origin": [0, 6], "age": 1, "patch": [[3, "aa"]]},
        {"record": "group", "slot": 2, "window": 130, "records": [
            {"record": "delta", "page": [0, 7], "origin": [0, 20], "age": 0, "patch": [[0, "0908"]]},
        ]},
        {"record": "zero", "page": [0, 8], "run": 1},
    ]
    most = [
        {"record": "zero", "page": [0, 0], "run": ZEROS},
        {"record": "literal", "page": [0, ZEROS], "seed": 7},
        *({"record": "same-as", "page": [0, ZEROS + n], "origin": [0, ZEROS], "age": 0} for n in range(1, CONTENT >> 16)),
    ]
    plain = {"digest": 1, "codecs": [], "windows": 0}
    zstd = plain | {"codecs": [1], "windows": 130}
    yield "nothing at all", 4096, plain, 0, [], {}
    yield "every record and every addressing", 4096, plain, 700, every, earlier
    yield "the same under BLAKE3", 4096, plain | {"digest": 2}, 700, every, earlier
    yield "groups forget the last page", 4096, zstd, 1, grouped, {"1/0/6": 8}
    yield "pages of 64 KiB, as many as there may be", 65536, plain, 0, most, {}
    yield "a patch for a page of 16 KiB", 16384, plain, 700, every, earlier


def refused():
    """Reason, offset behind the digest, records."""
    third = varint(LIMIT // 3 + 1).hex()
    yield "TooMuchContent", 6 + 4 * 255, "320000000501" + "30000501" * 256
    yield "TooManyZeros", 3, "120000" + varint(ZEROS).hex()
    yield "TooManyZeros", 7, "120000" + varint(ZEROS - 1).hex() + "10" + "00"
    yield "TooMuchRaw", 4 + 2 * 9, ("70010000" + third + "0100") * 3
    yield "TooManyRecords", RECORDS, "60" * (RECORDS + 1)
    yield "OwnPage", 5, "320003000300"
    yield "OwnPage", 5, "420003000300" + "03000109"
    yield "UnknownRecord", 0, "90"
    yield "UnknownAddressing", 0, "13"
    yield "StrayAddressing", 0, "61"
    yield "NoPageBefore", 0, "1000"
    yield "NoPageBefore", 11, "12000000" + "7001000001 01aa".replace(" ", "") + "1000"
    yield "LongAddress", 4, "12000000" + "12000100"
    yield "LongAddress", 4, "12000000" + "12000500"
    yield "NothingPassedOver", 5, "12000000" + "110000"
    yield "AddressOverflow", 5, "12000000" + "11ffffffffffffffffff0100"
    yield "LongVarint", 1, "1280000000"
    yield "HugeVarint", 2, "1200" + "ff" * 9 + "02"
    yield "HugeVarint", 2, "1200" + "ff" * 10
    yield "Truncated", 3, "120000"
    yield "Truncated", 3, "220000" + "00" * 4095
    yield "Truncated", 3, "500005aabb"
    yield "UnknownBlock", 1, "12030000"
    yield "PageBeyondBlock", 2, "12010400"
    yield "PageBeyondBlock", 4, "12010300" + "1000"
    yield "RunBeyondBlock", 3, "12010202"
    yield "BeforeFirstBatch", 5, "3200000100" + "0a"
    yield "UnknownChannel", 1, "5080800401aa"
    yield "EmptyOpaque", 2, "500000"
    yield "UnknownCodec", 1, "70020000010100"
    yield "StraySlot", 2, "70010100010100"
    yield "WindowNotAgreed", 3, "70010001010100"
    yield "RawLength", 4, "70010000000100"
    yield "RawLength", 4, "700100008180440100"
    yield "EmptyGroup", 5, "700100000100"
    yield "PatchTooLong", 6, "420000010000" + "8020"
    yield "EmptyPatch", 7, "42000001000000"
    yield "EmptyRun", 8, "420000010000" + "03000000"
    yield "TouchingRuns", 10, "420000010000" + "06000109000109"
    yield "RunBeyondPage", 7, "420000010000" + "04802001aa"


def join(pieces):
    return b"".join(page(p) if isinstance(p, int) else bytes.fromhex(p) for p in pieces)


def tidy(pieces):
    """Pages as their seed; the bytes between joined, as hex."""
    out = []
    for p in pieces:
        if isinstance(p, bytes):
            p = p.hex()
            if out and isinstance(out[-1], str):
                p = out.pop() + p
        out.append(p)
    return out


LEAST = {"digest": 1, "codecs": [], "windows": 0}
REFUSED_AGREED = {"digest": 1, "codecs": [1], "windows": 0}


def refused_otherwise():
    """Refusals of whole bodies, and under another agreement: reason, offset, body, agreed."""
    header = "01" + "00" * 32
    yield "UnknownDigest", 0, "03" + "00" * 32, REFUSED_AGREED
    yield "DigestNotAgreed", 0, "02" + "00" * 32, REFUSED_AGREED
    yield "Truncated", 1, "01" + "00" * 31, REFUSED_AGREED
    yield "CodecNotAgreed", 34, header + "7001000001" + "01aa", LEAST
    windows = REFUSED_AGREED | {"windows": 2}
    yield "StraySlot", 35, header + "7001000101" + "01aa", windows
    yield "SecondWindow", 43, header + "7001010101" + "01aa" + "7001010201" + "01aa", windows


def make(kept):
    """All vectors; what BLAKE3 would have said comes from `kept` when there is no BLAKE3."""
    global PAGE
    bodies = []
    for index, (name, PAGE, agreed, batch, records, earlier) in enumerate(accepted()):
        algorithm = agreed["digest"]
        if algorithm == 2 and blake3 is None:
            print(f"SKIPPED, no blake3 module: the digest of {name!r}", file=sys.stderr)
            value = join(kept["accepted"][index]["body"])[1:33]
        else:
            value = digest(algorithm, resolve(records, earlier))
        for r in records:
            if r["record"] == "group":
                r["raw_len"] = raw_len(r)
        body = tidy([bytes([algorithm]) + value, *write(records)])
        bodies.append({"name": name, "page_size": PAGE, "batch": batch, "agreed": agreed, "earlier": earlier,
                       "digest": value.hex(), "records": records, "body": body})
    PAGE = 4096
    header = "01" + "00" * 32
    refusals = [{"refusal": reason, "offset": 33 + offset, "agreed": REFUSED_AGREED, "body": [header + records]}
                for reason, offset, records in refused()]
    refusals += [{"refusal": reason, "offset": offset, "agreed": agreed, "body": [body]}
                 for reason, offset, body, agreed in refused_otherwise()]
    # A body that is a byte too long: 272 pages and what makes it 1,114,113 bytes.
    too_long = [header, *range(272 - 1), "00" * (LIMIT + 1 - 33 - 271 * PAGE)]
    refusals.append({"refusal": "BodyTooLong", "offset": 0, "agreed": REFUSED_AGREED, "body": too_long})
    # Offsets within a group count from its own beginning.
    inside = bytes.fromhex("60" + "7001000001" + "0160")
    group = zstd_stored(inside)
    head = bytes([0x70, 1, 0, 0]) + varint(len(inside)) + varint(len(group))
    refusals.append({"refusal": "NestedGroup", "offset": 1, "agreed": REFUSED_AGREED,
                     "body": [header + (head + group).hex()]})
    return {"blocks": BLOCKS, "refused_batch": 9, "refused_page_size": PAGE, "accepted": bodies, "refused": refusals}


def check(vectors):
    global PAGE
    for v in vectors["accepted"]:
        PAGE = v["page_size"]
        found = read(join(v["body"]), BLOCKS, v["batch"], v["agreed"])
        assert found == v["records"], v["name"]
    PAGE = vectors["refused_page_size"]
    for v in vectors["refused"]:
        try:
            read(join(v["body"]), BLOCKS, vectors["refused_batch"], v["agreed"])
        except Refused as r:
            assert (r.reason, r.offset) == (v["refusal"], v["offset"]), f"{v}: found {r}"
        else:
            raise AssertionError(f"accepted: {v}")


def main():
    kept = json.loads(FILE.read_text()) if FILE.exists() else None
    if blake3 is None and (kept is None or "--check" not in sys.argv):
        sys.exit("records.json holds BLAKE3 digests: to write it, install PyPI's blake3")
    vectors = make(kept)
    check(vectors)
    text = json.dumps(vectors, indent=1) + "\n"
    if "--check" not in sys.argv:
        FILE.write_text(text)
    elif text != FILE.read_text():
        sys.exit("records.json is not what records.py makes")
    print(f"{len(vectors['accepted'])} bodies, {len(vectors['refused'])} refusals: ok")


if __name__ == "__main__":
    main()
