"""Pages for people: made here whole, read without a script, kept up to date by a small one."""
