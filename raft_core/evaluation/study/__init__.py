"""A comparison study: many methods on students, domains and seeds become one document."""
