"""ESMTP extensions: what one is, the built-in ones, and what EHLO announces of them."""
