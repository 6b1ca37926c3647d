"""ML-KEM-768 encapsulation from given randomness, FIPS 203, algorithms 14 and 17.

`cryptography` generates keys from a seed and decapsulates, but encapsulates only with randomness of its own, which
would make other vectors at each run. This is that one missing step; generate.py has `cryptography`
decapsulate every ciphertext that comes from here. Not constant-time: for vectors only.
"""

import hashlib

Q = 3329
K = 3
N = 256
DU, DV = 10, 4


def encapsulate(key: bytes, m: bytes) -> tuple[bytes, bytes]:
    """The ciphertext and the shared key."""
    digest = hashlib.sha3_512(m + hashlib.sha3_256(key).digest()).digest()
    shared, randomness = digest[:32], digest[32:]
    return encrypt(key, m, randomness), shared


def encrypt(key: bytes, m: bytes, randomness: bytes) -> bytes:
    t_hat = [decode(key[384 * i : 384 * (i + 1)], 12) for i in range(K)]
    rho = key[384 * K :]
    noise = [sample_cbd(prf(randomness, i)) for i in range(2 * K + 1)]
    y_hat = [ntt(poly) for poly in noise[:K]]
    e1, e2 = noise[K : 2 * K], noise[2 * K]
    u = []
    for i in range(K):
        row = [0] * N
        for j in range(K):
            # The matrix transposed: entry (j, i) is sampled from rho, i, j.
            row = add(row, multiply(sample_ntt(rho + bytes([i, j])), y_hat[j]))
        u.append(add(inverse_ntt(row), e1[i]))
    v = [0] * N
    for i in range(K):
        v = add(v, multiply(t_hat[i], y_hat[i]))
    mu = [bit * ((Q + 1) // 2) for bit in decode(m, 1)]
    v = add(add(inverse_ntt(v), e2), mu)
    return b"".join(encode(compress(poly, DU), DU) for poly in u) + encode(compress(v, DV), DV)


def sample_ntt(seed: bytes) -> list[int]:
    # 256 coefficients take about 470 bytes of output; 1,344 always did.
    stream = hashlib.shake_128(seed).digest(1344)
    out = []
    for a, b, c in zip(*[iter(stream)] * 3):
        for d in (a + 256 * (b % 16), b // 16 + 16 * c):
            if d < Q and len(out) < N:
                out.append(d)
    assert len(out) == N
    return out


def sample_cbd(stream: bytes) -> list[int]:
    bits = [byte >> i & 1 for byte in stream for i in range(8)]
    return [
        (bits[4 * i] + bits[4 * i + 1] - bits[4 * i + 2] - bits[4 * i + 3]) % Q for i in range(N)
    ]


def prf(seed: bytes, counter: int) -> bytes:
    return hashlib.shake_256(seed + bytes([counter])).digest(128)


def reverse(i: int) -> int:
    return int(f"{i:07b}"[::-1], 2)


def ntt(f: list[int]) -> list[int]:
    f, i, length = list(f), 1, 128
    while length >= 2:
        for start in range(0, N, 2 * length):
            zeta = pow(17, reverse(i), Q)
            i += 1
            for j in range(start, start + length):
                t = zeta * f[j + length] % Q
                f[j], f[j + length] = (f[j] + t) % Q, (f[j] - t) % Q
        length //= 2
    return f


def inverse_ntt(f: list[int]) -> list[int]:
    f, i, length = list(f), 127, 2
    while length <= 128:
        for start in range(0, N, 2 * length):
            zeta = pow(17, reverse(i), Q)
            i -= 1
            for j in range(start, start + length):
                t = f[j]
                f[j], f[j + length] = (t + f[j + length]) % Q, zeta * (f[j + length] - t) % Q
        length *= 2
    return [x * 3303 % Q for x in f]


def multiply(f: list[int], g: list[int]) -> list[int]:
    out = []
    for i in range(N // 2):
        gamma = pow(17, 2 * reverse(i) + 1, Q)
        a0, a1, b0, b1 = f[2 * i], f[2 * i + 1], g[2 * i], g[2 * i + 1]
        out += [(a0 * b0 + a1 * b1 * gamma) % Q, (a0 * b1 + a1 * b0) % Q]
    return out


def add(f: list[int], g: list[int]) -> list[int]:
    return [(a + b) % Q for a, b in zip(f, g)]


def compress(f: list[int], d: int) -> list[int]:
    return [((x << d) + Q // 2) // Q % (1 << d) for x in f]


def encode(f: list[int], d: int) -> bytes:
    return sum(x << d * i for i, x in enumerate(f)).to_bytes(32 * d, "little")


def decode(data: bytes, d: int) -> list[int]:
    number = int.from_bytes(data, "little")
    return [number >> d * i & (1 << d) - 1 for i in range(N)]
