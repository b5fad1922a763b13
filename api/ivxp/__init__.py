"""The IVXP protocol over HTTP."""
