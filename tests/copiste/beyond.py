import copiste.binding, copiste.sql, copiste.functions.base as base
from copiste.functions.ldapfuncs import *
from settings import creds

class Mine(base.PlPythonFunction):
    def call(self, TD, plpy):
        open('/tmp/never', 'w')

tables = [t for t in ('a', 'b')]
open('/tmp/emaj-import-ran', 'w').write('it ran')
on = copiste.sql.WriteTrigger(sql_table='public.t', name='watch')
where = LDAPModel(query='(cn={cn})', base='ou=x', dn='cn={cn},ou=x')
joined = {'cn': {'foreign_table': 'u', 'foreign_field': 'name', 'join': ('u_id', 'id')}}
bindings = [
    copiste.binding.Bind(on, Mine()),
    copiste.binding.Bind(on, base.DebugParams(message='seen')),
    copiste.binding.Bind(on, Accumulate2LDAPField('mail', joined, where, creds)),
    copiste.binding.Bind(on, Accumulate2LDAPField('mail', {'cn': 'name'}, where, creds)),
    copiste.binding.Bind(on, Copy2LDAP({'cn': 'name'}, where, creds)),
    copiste.binding.Bind(on, unknown_function),
]
