-- While a configuration is rolled out, processes with the old one and the new one run side by side: a webhook is one as long as
-- some process knows it.
ALTER TABLE webhooks ADD COLUMN seen_at timestamptz NOT NULL DEFAULT now();

-- In the order of sequences, which a transaction gets when it writes and not when it begins.
ALTER TABLE events ALTER COLUMN recorded_at SET DEFAULT clock_timestamp();
