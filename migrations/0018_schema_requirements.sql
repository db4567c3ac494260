-- Which programs may use this database. A program must know the migration of this number; it may know more, and the database
-- may have more. A migration that older programs cannot live with raises the number in its own transaction; one that only adds
-- does not, so that the version before can be rolled back to.
CREATE TABLE schema_requirements (
    only_row              boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    least_known_migration bigint NOT NULL
);
INSERT INTO schema_requirements (least_known_migration) VALUES (1);
