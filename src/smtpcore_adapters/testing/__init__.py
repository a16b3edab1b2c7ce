"""For the tests of programs that send or receive mail."""
