"""`python -m smtpcore` is the command `smtpcore`, which needs the extra `cli`."""

# This is the only module of the core that imports the adapters. Nothing imports this module, so that `import smtpcore`
# still loads no other package.

if __name__ == "__main__":
    from smtpcore_adapters.__main__ import main

    main()
