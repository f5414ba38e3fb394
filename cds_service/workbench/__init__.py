"""The workbench: the page of demo mode on which people see, try and question the rules without an EHR."""
