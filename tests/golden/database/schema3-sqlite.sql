-- What the program made before there were migrations.
CREATE TABLE audit (
    seq INTEGER NOT NULL,
    time BIGINT NOT NULL,
    kind VARCHAR(32) NOT NULL,
    subject VARCHAR(255) NOT NULL,
    outcome VARCHAR(32) NOT NULL,
    record BLOB NOT NULL,
    sha256 BLOB NOT NULL,
    PRIMARY KEY (seq),
    CONSTRAINT audit_seq_positive CHECK (seq > 0)
);

CREATE INDEX audit_time ON audit (time);

CREATE TABLE blobs (
    sha256 BLOB NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (sha256)
);

CREATE TABLE checkpoints (
    size BIGINT NOT NULL,
    root BLOB NOT NULL,
    time BIGINT NOT NULL,
    note BLOB NOT NULL,
    PRIMARY KEY (size)
);

CREATE TABLE reference_values (
    id INTEGER NOT NULL,
    name VARCHAR(64) NOT NULL,
    launch_digest BLOB NOT NULL,
    document BLOB NOT NULL,
    added BIGINT NOT NULL,
    added_by VARCHAR(255) NOT NULL,
    retired BIGINT,
    retired_by VARCHAR(255),
    PRIMARY KEY (id)
);

CREATE INDEX reference_values_name ON reference_values (name);

CREATE TABLE secrets (
    path VARCHAR(200) NOT NULL,
    version INTEGER NOT NULL,
    created BIGINT NOT NULL,
    created_by VARCHAR(255) NOT NULL,
    size INTEGER NOT NULL,
    only_for TEXT,
    retired BIGINT,
    master_key_id VARCHAR(32),
    wrapped_key BLOB,
    ciphertext BLOB,
    PRIMARY KEY (path, version)
);

CREATE TABLE settings (
    name VARCHAR(64) NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (name)
);

CREATE TABLE tree (
    level SMALLINT NOT NULL,
    number BIGINT NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (level, number)
)
 WITHOUT ROWID;

CREATE TABLE decisions (
    id INTEGER NOT NULL,
    token_id VARCHAR(64) NOT NULL,
    time BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    status VARCHAR(32) NOT NULL,
    generation INTEGER NOT NULL,
    emulated BOOLEAN NOT NULL,
    tee_pubkey TEXT NOT NULL,
    "references" TEXT NOT NULL,
    revoked BIGINT,
    PRIMARY KEY (id),
    FOREIGN KEY(id) REFERENCES audit (seq),
    UNIQUE (token_id)
);

CREATE INDEX decisions_revoked ON decisions (revoked);

CREATE TABLE sessions (
    id_sha256 BLOB NOT NULL,
    nonce VARCHAR(64) NOT NULL,
    tee VARCHAR(32) NOT NULL,
    version VARCHAR(16) NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    nonce_used BIGINT,
    decision INTEGER,
    PRIMARY KEY (id_sha256),
    UNIQUE (nonce),
    FOREIGN KEY(decision) REFERENCES decisions (id)
);

CREATE INDEX sessions_expires ON sessions (expires);

INSERT INTO settings (name, value) VALUES ('schema', '3');

INSERT INTO settings (name, value) VALUES ('generation', '7');
