-- Run once, when the server's volume is empty. Each server numbers its migrations in a table of the
-- same name, so each has a database of its own.
CREATE DATABASE prefect;
CREATE DATABASE mlflow;
CREATE DATABASE mlflow_auth;
