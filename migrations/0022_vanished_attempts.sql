-- Attempts of a job in a row that ended without an answer, because their process died or was cut off until the lease had ended. A
-- job that ends its process again and again is found by this number, and is given up.
ALTER TABLE jobs ADD COLUMN vanished integer NOT NULL DEFAULT 0 CONSTRAINT jobs_vanished CHECK (vanished >= 0);
