-- What `tests/clerk` works on: 400,000 accounts, some 90 MB with their index. The note is text of the kind that databases are full of.
CREATE TABLE account (id integer PRIMARY KEY, balance bigint NOT NULL, note text NOT NULL);
INSERT INTO account
    SELECT id, 0, format('customer %s of branch %s, since %s, contact %s', id, id % 97, date '2001-01-01' + id % 9000, md5(id::text))
    FROM generate_series(1, 400000) AS id;
CREATE TABLE ledger (
    id bigserial PRIMARY KEY, giver integer NOT NULL, taker integer NOT NULL, sum bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
VACUUM ANALYZE;
